//! Rows as `COPY … TO STDOUT` gives them: customers, orders with JSON, events. The same for the same size, everywhere.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

const FIRST: [&str; 16] = [
    "Anna", "Berta", "Carl", "Dora", "Emil", "Fritz", "Greta", "Hans", "Ida", "Josef", "Klara", "Ludwig",
    "Maria", "Nora", "Otto", "Paula",
];
const LAST: [&str; 16] = [
    "Albers", "Brandt", "Conrad", "Dietrich", "Engel", "Fischer", "Graf", "Huber", "Iversen", "Jansen",
    "Keller", "Lorenz", "Maurer", "Neumann", "Oswald", "Petersen",
];
const CITY: [&str; 10] =
    ["Berlin", "Hamburg", "München", "Köln", "Wien", "Zürich", "Basel", "Graz", "Bremen", "Leipzig"];
const STATUS: [&str; 6] = ["paid", "shipped", "returned", "open", "cancelled", "refunded"];
const KIND: [&str; 7] = [
    "page_view",
    "add_to_cart",
    "checkout_started",
    "payment_succeeded",
    "payment_failed",
    "mail_sent",
    "login",
];
const AGENT: [&str; 4] = [
    "Mozilla/5.0 (X11; Linux x86_64) Firefox/141.0",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) Safari/605.1",
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) Chrome/138.0.0.0",
    "okhttp/4.12.0",
];

/// A xorshift generator: the rows need no better one.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, limit: u64) -> u64 {
        (self.next() >> 11) % limit
    }

    fn of<'a>(&mut self, words: &[&'a str]) -> &'a str {
        let at = self.below(words.len() as u64) as usize;
        words.get(at).copied().unwrap_or_default()
    }
}

/// Writes about that many bytes: an eighth customers, half orders, the rest events.
pub(crate) fn write(path: &Path, bytes: u64) -> std::io::Result<()> {
    let mut out = BufWriter::with_capacity(1 << 20, File::create(path)?);
    let mut random = Random(0x0BAC_57A7_5EED_0001);
    let mut written = 0;
    let tables: [(&str, u64, Row); 3] = [
        ("customer (id, name, email, street, city, phone, created_at)", bytes / 8, customer),
        ("orders (id, customer_id, created_at, status, total, reference, lines, note)", bytes / 8 * 5, order),
        ("event (id, order_id, happened_at, kind, session, data)", bytes, event),
    ];
    let mut line = String::new();
    for (table, until, row) in tables {
        line.clear();
        line.push_str(&format!("COPY public.{table} FROM stdin;\n"));
        let mut id = 0;
        while written < until {
            out.write_all(line.as_bytes())?;
            written += line.len() as u64;
            line.clear();
            id += 1;
            row(&mut line, id, &mut random).map_err(std::io::Error::other)?;
        }
        out.write_all(b"\\.\n\n")?;
    }
    out.flush()
}

type Row = fn(&mut String, u64, &mut Random) -> std::fmt::Result;

fn time(random: &mut Random, id: u64, step: u64) -> String {
    let second = 1_640_000_000 + id * step + random.below(step * 40);
    let moment = jiff::Timestamp::from_second(i64::try_from(second).unwrap_or(0)).unwrap_or_default();
    format!("{}.{:06}+00", moment.strftime("%Y-%m-%d %H:%M:%S"), random.below(1_000_000))
}

fn customer(line: &mut String, id: u64, random: &mut Random) -> std::fmt::Result {
    use std::fmt::Write;
    let (first, last) = (random.of(&FIRST), random.of(&LAST));
    let (street, house, city) = (random.of(&LAST), random.below(180) + 1, random.of(&CITY));
    let phone = random.below(1_000_000_000);
    let created = time(random, id, 61);
    let number = random.below(100_000);
    writeln!(
        line,
        "{id}\t{first} {last}\t{}.{}{number}@example.org\t{street}straße {house}\t{city}\t+49 {phone:09}\t{created}",
        first.to_lowercase(),
        last.to_lowercase(),
    )
}

fn order(line: &mut String, id: u64, random: &mut Random) -> std::fmt::Result {
    use std::fmt::Write;
    let created = time(random, id, 23);
    let (customer, status) = (random.below(1_500_000) + 1, random.of(&STATUS));
    let (high, low) = (random.next(), random.next());
    let mut total = 0;
    let mut lines = String::new();
    for number in 0..=random.below(3) {
        let (sku, quantity, price) = (random.below(40_000), random.below(4) + 1, random.below(20_000) + 99);
        total += quantity * price;
        let comma = if number > 0 { ", " } else { "" };
        write!(
            lines,
            "{comma}{{\"sku\": \"SKU-{sku:05}\", \"quantity\": {quantity}, \"price_cents\": {price}}}"
        )?;
    }
    write!(
        line,
        "{id}\t{customer}\t{created}\t{status}\t{}.{:02}\t{:08x}-{:04x}-4{:03x}-{:04x}-{:012x}\t[{lines}]\t",
        total / 100,
        total % 100,
        high as u32,
        (high >> 32) as u16,
        (high >> 48) & 0xfff,
        0x8000 | (low as u16 & 0x3fff),
        low >> 16,
    )?;
    match random.below(3) {
        0 => writeln!(line, "Please leave the parcel with neighbour no. {}, thank you", random.below(400)),
        _ => writeln!(line, "\\N"),
    }
}

fn event(line: &mut String, id: u64, random: &mut Random) -> std::fmt::Result {
    use std::fmt::Write;
    let happened = time(random, id, 7);
    let (order, kind, session) = (random.below(3_000_000) + 1, random.of(&KIND), random.next());
    let address: Vec<String> = (0..4).map(|_| random.below(256).to_string()).collect();
    writeln!(
        line,
        "{id}\t{order}\t{happened}\t{kind}\t{session:016x}\t{{\"ip\": \"{}\", \"agent\": \"{}\", \"elapsed_ms\": {}, \
         \"page\": \"/product/{}\"}}",
        address.join("."),
        random.of(&AGENT),
        random.below(9000),
        random.below(40_000),
    )
}
