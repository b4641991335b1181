//! The chunker polynomial of a repository: random, irreducible over GF(2), of degree 53.
//!
//! Restic refuses a repository whose polynomial is reducible. The test is Ben-Or's: a polynomial of degree n is
//! irreducible if it shares no factor with x^(2^i) - x for any i up to n / 2.

use crate::crypto::random;
use crate::error::ResticError;

const DEGREE: u32 = 53;

/// Returns a random irreducible polynomial of degree 53. About one try in 27 succeeds.
pub(crate) fn random_irreducible() -> Result<u64, ResticError> {
    loop {
        let mut bytes = [0; 8];
        random(&mut bytes)?;
        // Only a polynomial with a constant term can be irreducible.
        let candidate = u64::from_le_bytes(bytes) & ((1 << DEGREE) - 1) | (1 << DEGREE) | 1;
        if is_irreducible(candidate) {
            return Ok(candidate);
        }
    }
}

/// Tells whether a polynomial over GF(2), of degree 1 to 53, has no factor but itself and 1.
pub(crate) fn is_irreducible(polynomial: u64) -> bool {
    let Some(degree) = polynomial.checked_ilog2().filter(|degree| (1..=DEGREE).contains(degree)) else {
        return false;
    };
    // x^(2^i) modulo the polynomial, squared once a round.
    let mut power = remainder(2, polynomial);
    (1..=degree / 2).all(|_| {
        power = multiply(power, power, polynomial);
        gcd(polynomial, power ^ 2) == 1
    })
}

fn remainder(mut a: u64, b: u64) -> u64 {
    let degree = b.ilog2();
    while let Some(d) = a.checked_ilog2().filter(|d| *d >= degree) {
        a ^= b << (d - degree);
    }
    a
}

fn multiply(mut a: u64, mut b: u64, modulus: u64) -> u64 {
    let top = 1 << modulus.ilog2();
    let mut product = 0;
    while b != 0 {
        if b & 1 == 1 {
            product ^= a;
        }
        b >>= 1;
        a <<= 1;
        if a & top != 0 {
            a ^= modulus;
        }
    }
    product
}

fn gcd(mut a: u64, mut b: u64) -> u64 {
    while b != 0 {
        (a, b) = (b, remainder(a, b));
    }
    a
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// By division with every smaller polynomial.
    fn is_irreducible_by_trial(polynomial: u64) -> bool {
        (2..polynomial)
            .take_while(|f| f.ilog2() <= polynomial.ilog2() / 2)
            .all(|f| remainder(polynomial, f) != 0)
    }

    #[test]
    fn small_polynomials_agree_with_trial_division() {
        for polynomial in 2..4096 {
            assert_eq!(is_irreducible(polynomial), is_irreducible_by_trial(polynomial), "{polynomial:x}");
        }
    }

    #[test]
    fn polynomials_of_restic_are_irreducible() {
        for polynomial in [0x3DA3358B4DC173, 0x25b468838dcb75] {
            assert!(is_irreducible(polynomial), "{polynomial:x}");
            assert!(!is_irreducible(polynomial ^ 1), "without a constant term it has the factor x");
        }
    }

    #[test]
    fn products_are_reducible() {
        // Degrees 26 and 27, 1 and 52.
        for (a, b) in [(0x4000047u64, 0x8000027u64), (0x3, 0x0010_0000_0000_0009)] {
            let product = (0..64).filter(|bit| b >> bit & 1 == 1).fold(0, |sum, bit| sum ^ (a << bit));
            assert_eq!(product.ilog2(), DEGREE);
            assert!(!is_irreducible(product));
        }
    }

    #[test]
    fn random_ones_have_degree_53_and_differ() {
        let (a, b) = (random_irreducible().unwrap(), random_irreducible().unwrap());
        assert_eq!(a.ilog2(), DEGREE);
        assert!(is_irreducible(a) && is_irreducible(b));
        assert_ne!(a, b);
    }
}
