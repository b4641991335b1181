//! Sealing: AES-256 in counter mode, authenticated with Poly1305-AES, as restic does it.
//!
//! A sealed text is `IV ‖ ciphertext ‖ MAC`, 32 bytes longer than the plain one. The MAC is checked before a byte is
//! decrypted.

use crate::error::{ResticError, ResticErrorKind};
use aes256ctr_poly1305aes::aead::AeadInPlace;
use aes256ctr_poly1305aes::{Aes256CtrPoly1305Aes, Key, Nonce, Tag};

/// What sealing adds.
pub(crate) const SEAL_BYTES: usize = IV_BYTES + MAC_BYTES;
/// Where the plaintext begins.
pub(crate) const IV_BYTES: usize = 16;
const MAC_BYTES: usize = 16;

/// The text was not sealed with this key, or is no longer what was sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the message authentication code does not fit")]
pub(crate) struct NotAuthentic;

/// A key that seals and opens: 32 bytes for AES-256, 16 for AES-128, 16 for Poly1305.
pub(crate) struct SealingKey {
    cipher: Aes256CtrPoly1305Aes,
    bytes: [u8; 64],
}

impl SealingKey {
    pub(crate) fn new(key: &[u8; 64]) -> Self {
        Self { cipher: Aes256CtrPoly1305Aes::new(Key::from_slice(key)), bytes: *key }
    }

    /// Returns the key itself, to be sealed with another one.
    pub(crate) fn bytes(&self) -> &[u8; 64] {
        &self.bytes
    }

    /// Seals in place: the plaintext lies between 16 bytes for the IV and 16 for the MAC.
    pub(crate) fn seal_in_place(&self, text: &mut [u8]) -> Result<(), ResticError> {
        let fail = |message| ResticError::new(ResticErrorKind::Failed, "sealed text", message);
        if text.len() < SEAL_BYTES {
            return Err(fail("no room for IV and MAC"));
        }
        let (iv, rest) = text.split_at_mut(IV_BYTES);
        let (plain, mac) = rest.split_at_mut(rest.len() - MAC_BYTES);
        loop {
            random(iv)?;
            // The cipher below counts in 64 bits, restic in 128: take no IV whose lower half would overflow.
            let mut low = [0; 8];
            low.copy_from_slice(&iv[8..]);
            if u64::from_be_bytes(low).checked_add(plain.len() as u64 / 16 + 1).is_some() {
                break;
            }
        }
        let tag = self
            .cipher
            .encrypt_in_place_detached(Nonce::from_slice(iv), b"", plain)
            .map_err(|_| fail("the cipher refused it"))?;
        mac.copy_from_slice(&tag);
        Ok(())
    }

    /// Returns a sealed copy.
    pub(crate) fn seal(&self, plain: &[u8]) -> Result<Vec<u8>, ResticError> {
        let mut text = Vec::with_capacity(plain.len() + SEAL_BYTES);
        text.resize(IV_BYTES, 0);
        text.extend_from_slice(plain);
        text.resize(plain.len() + SEAL_BYTES, 0);
        self.seal_in_place(&mut text)?;
        Ok(text)
    }

    /// Opens in place and returns the plaintext within `text`.
    pub(crate) fn open_in_place<'a>(&self, text: &'a mut [u8]) -> Result<&'a mut [u8], NotAuthentic> {
        if text.len() < SEAL_BYTES {
            return Err(NotAuthentic);
        }
        let (iv, rest) = text.split_at_mut(IV_BYTES);
        let (cipher, mac) = rest.split_at_mut(rest.len() - MAC_BYTES);
        self.cipher
            .decrypt_in_place_detached(Nonce::from_slice(iv), b"", cipher, Tag::from_slice(mac))
            .map_err(|_| NotAuthentic)?;
        Ok(cipher)
    }

    /// Opens a sealed text that may be overwritten.
    pub(crate) fn open(&self, mut text: Vec<u8>) -> Result<Vec<u8>, NotAuthentic> {
        let length = self.open_in_place(&mut text)?.len();
        text.truncate(IV_BYTES + length);
        text.drain(..IV_BYTES);
        Ok(text)
    }
}

/// Fills with randomness of the operating system.
pub(crate) fn random(bytes: &mut [u8]) -> Result<(), ResticError> {
    getrandom::fill(bytes).map_err(|error| {
        ResticError::new(ResticErrorKind::Failed, "random numbers", "the operating system has none")
            .with_source(std::io::Error::other(error.to_string()))
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn key(seed: u8) -> SealingKey {
        let mut bytes = [0; 64];
        for (at, byte) in bytes.iter_mut().enumerate() {
            *byte = seed.wrapping_mul(31).wrapping_add(at as u8);
        }
        SealingKey::new(&bytes)
    }

    proptest! {
        #[test]
        fn what_is_sealed_opens_and_nothing_else_does(
            plain in proptest::collection::vec(any::<u8>(), 0..5000),
            flip in any::<proptest::sample::Index>(),
            bit in 0u8..8,
        ) {
            let sealed = key(1).seal(&plain).unwrap();
            prop_assert_eq!(sealed.len(), plain.len() + SEAL_BYTES);
            prop_assert_eq!(key(1).open(sealed.clone()).unwrap(), plain);
            prop_assert_eq!(key(2).open(sealed.clone()), Err(NotAuthentic));
            let mut damaged = sealed.clone();
            damaged[flip.index(sealed.len())] ^= 1 << bit;
            prop_assert_eq!(key(1).open(damaged), Err(NotAuthentic));
            prop_assert_eq!(key(1).open(sealed[..sealed.len() - 1].to_vec()), Err(NotAuthentic));
        }
    }

    #[test]
    fn two_seals_of_one_text_differ() {
        assert_ne!(key(1).seal(b"text").unwrap(), key(1).seal(b"text").unwrap());
    }
}
