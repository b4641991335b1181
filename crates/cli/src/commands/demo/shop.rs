//! The sample database: a shop with customers, products, orders and their lines. The same content every time, so that
//! what the demonstration shows can be told beforehand.

use flow::Cancel;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use rusqlite::{Connection, params};
use std::path::Path;

pub(super) const ORDERS: u32 = 200_000;
const CUSTOMERS: u32 = 20_000;
/// The first and the last moment of an order, as seconds since 1970: three years up to November 2026.
const FIRST_SECOND: i64 = 1_700_470_800;
const LAST_SECOND: i64 = 1_795_212_000;

const SCHEMA: &str = "
CREATE TABLE customers (id INTEGER PRIMARY KEY, name TEXT NOT NULL, email TEXT NOT NULL, city TEXT NOT NULL, since TEXT NOT NULL);
CREATE TABLE products (id INTEGER PRIMARY KEY, name TEXT NOT NULL, category TEXT NOT NULL, price_cents INTEGER NOT NULL, stock INTEGER NOT NULL);
CREATE TABLE orders (id INTEGER PRIMARY KEY, customer_id INTEGER NOT NULL REFERENCES customers, ordered_at TEXT NOT NULL, status TEXT NOT NULL, total_cents INTEGER NOT NULL);
CREATE TABLE order_lines (order_id INTEGER NOT NULL REFERENCES orders, line INTEGER NOT NULL, product_id INTEGER NOT NULL REFERENCES products, quantity INTEGER NOT NULL, price_cents INTEGER NOT NULL, PRIMARY KEY (order_id, line)) WITHOUT ROWID;
";

const INDEXES: &str = "
CREATE INDEX orders_by_customer ON orders (customer_id);
CREATE INDEX orders_by_time ON orders (ordered_at);
";

const FIRST_NAMES: [&str; 32] = [
    "Anna", "Ben", "Carla", "David", "Elif", "Felix", "Greta", "Hugo", "Ines", "Jonas", "Kira", "Liam",
    "Mara", "Noah", "Olga", "Paul", "Quinn", "Rosa", "Samir", "Tara", "Umar", "Vera", "Wim", "Xenia",
    "Yusuf", "Zoë", "Amélie", "Björn", "Chloé", "Dmitri", "Eva", "Fatima",
];
const LAST_NAMES: [&str; 32] = [
    "Adler",
    "Bauer",
    "Costa",
    "Dubois",
    "Eriksen",
    "Fischer",
    "García",
    "Hansen",
    "Ivanova",
    "Jansen",
    "Kaya",
    "López",
    "Meyer",
    "Novak",
    "Okafor",
    "Petit",
    "Quist",
    "Rossi",
    "Schmidt",
    "Tanaka",
    "Ueda",
    "Vogel",
    "Weber",
    "Xu",
    "Yılmaz",
    "Zimmer",
    "Andersson",
    "Brown",
    "Clarke",
    "Durand",
    "Evans",
    "Ferrari",
];
const CITIES: [&str; 16] = [
    "Amsterdam",
    "Berlin",
    "Bologna",
    "Brno",
    "Cork",
    "Gdańsk",
    "Ghent",
    "Graz",
    "Leipzig",
    "Lyon",
    "Malmö",
    "Porto",
    "Tartu",
    "Utrecht",
    "Valencia",
    "Zürich",
];
const KINDS: [(&str, &str, i64); 16] = [
    ("kettle", "kitchen", 3490),
    ("teapot", "kitchen", 2790),
    ("bread knife", "kitchen", 4250),
    ("frying pan", "kitchen", 5990),
    ("desk lamp", "light", 6900),
    ("lantern", "light", 2450),
    ("wool blanket", "home", 8900),
    ("linen towel", "home", 1690),
    ("doormat", "home", 2990),
    ("watering can", "garden", 2190),
    ("hand rake", "garden", 1450),
    ("bird feeder", "garden", 1990),
    ("notebook", "paper", 890),
    ("fountain pen", "paper", 3900),
    ("wall calendar", "paper", 1590),
    ("backpack", "travel", 11900),
];
const STYLES: [&str; 20] = [
    "plain", "blue", "green", "red", "black", "small", "large", "travel", "classic", "enamel", "copper",
    "oak", "birch", "striped", "grey", "white", "double", "folding", "recycled", "gift",
];
const STATUSES: [&str; 8] =
    ["delivered", "delivered", "delivered", "delivered", "delivered", "shipped", "returned", "cancelled"];

/// Numbers that look random and are the same every time (SplitMix64).
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Returns a number below `end`.
    fn below(&mut self, end: u32) -> u32 {
        let scaled = ((self.roll() >> 32) * u64::from(end.max(1))) >> 32;
        u32::try_from(scaled).unwrap_or(0)
    }

    fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        let at = self.below(u32::try_from(from.len()).unwrap_or(1)) as usize;
        from.get(at).copied().unwrap_or_default()
    }
}

/// Why the database was not made.
pub(super) enum ShopError {
    Sqlite(rusqlite::Error),
    Interrupted,
}

impl From<rusqlite::Error> for ShopError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

/// Makes the database. It needs not survive a crash: it is a sample.
pub(super) fn make(path: &Path, cancel: &Cancel) -> Result<(), ShopError> {
    let mut connection = Connection::open(path)?;
    connection.execute_batch("PRAGMA journal_mode = DELETE; PRAGMA synchronous = OFF;")?;
    connection.execute_batch(SCHEMA)?;
    let mut dice = Dice(2026);
    let write = connection.transaction()?;
    customers(&write, &mut dice)?;
    let prices = products(&write, &mut dice)?;
    orders(&write, &mut dice, &prices, 1..=ORDERS, cancel)?;
    write.execute_batch(INDEXES)?;
    write.commit()?;
    Ok(())
}

/// What a day brings: some orders, and a few prices that change.
pub(super) fn a_day_of_trade(path: &Path, cancel: &Cancel) -> Result<(), ShopError> {
    let mut connection = Connection::open(path)?;
    let mut dice = Dice(7);
    let write = connection.transaction()?;
    let prices: Vec<i64> = write
        .prepare("SELECT price_cents FROM products ORDER BY id")?
        .query_map([], |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    orders(&write, &mut dice, &prices, ORDERS + 1..=ORDERS + 250, cancel)?;
    write
        .execute("UPDATE products SET price_cents = price_cents * 105 / 100 WHERE category = 'garden'", [])?;
    write.execute(
        "UPDATE orders SET status = 'delivered' WHERE id > ?1 AND status = 'shipped'",
        [ORDERS - 500],
    )?;
    write.commit()?;
    Ok(())
}

fn customers(write: &Connection, dice: &mut Dice) -> Result<(), ShopError> {
    let mut insert = write.prepare("INSERT INTO customers VALUES (?1, ?2, ?3, ?4, ?5)")?;
    for id in 1..=CUSTOMERS {
        let (first, last) = (dice.pick(&FIRST_NAMES), dice.pick(&LAST_NAMES));
        let plain =
            |name: &str| name.to_lowercase().chars().filter(char::is_ascii_alphabetic).collect::<String>();
        let email = format!("{}.{}{id}@example.com", plain(first), plain(last));
        let since = time(FIRST_SECOND - i64::from(dice.below(60_000_000)));
        let day = since.get(..10).unwrap_or(&since);
        insert.execute(params![id, format!("{first} {last}"), email, dice.pick(&CITIES), day])?;
    }
    Ok(())
}

fn products(write: &Connection, dice: &mut Dice) -> Result<Vec<i64>, ShopError> {
    let mut insert = write.prepare("INSERT INTO products VALUES (?1, ?2, ?3, ?4, ?5)")?;
    let mut prices = Vec::new();
    for (kind, category, base) in KINDS {
        for style in STYLES {
            let price = (base + i64::from(dice.below(20)) * 50) / 10 * 10 - 1;
            let name = format!("{style} {kind}");
            prices.push(price);
            let id = i64::try_from(prices.len()).unwrap_or(0);
            insert.execute(params![id, name, category, price, dice.below(400)])?;
        }
    }
    Ok(prices)
}

fn orders(
    write: &Connection,
    dice: &mut Dice,
    prices: &[i64],
    ids: std::ops::RangeInclusive<u32>,
    cancel: &Cancel,
) -> Result<(), ShopError> {
    let mut insert = write.prepare("INSERT INTO orders VALUES (?1, ?2, ?3, ?4, ?5)")?;
    let mut insert_line = write.prepare("INSERT INTO order_lines VALUES (?1, ?2, ?3, ?4, ?5)")?;
    let product_count = u32::try_from(prices.len()).unwrap_or(1);
    for id in ids {
        if id.is_multiple_of(10_000) && cancel.is_cancelled() {
            return Err(ShopError::Interrupted);
        }
        let mut lines = Vec::new();
        for _ in 0..1 + dice.below(4) {
            // Some products sell better than others.
            let product = dice.below(product_count).min(dice.below(product_count));
            let price = prices.get(product as usize).copied().unwrap_or(1000);
            lines.push((product + 1, 1 + i64::from(dice.below(12) / 10), price));
        }
        let total: i64 = lines.iter().map(|(_, quantity, price)| quantity * price).sum();
        // Business grows: the later, the more orders a day.
        let share = (f64::from(id) / f64::from(ORDERS + 250)).sqrt();
        let second = FIRST_SECOND + ((LAST_SECOND - FIRST_SECOND) as f64 * share) as i64;
        let status = if id > ORDERS - 2_000 {
            dice.pick(&["shipped", "packed", "paid"])
        } else {
            dice.pick(&STATUSES)
        };
        insert.execute(params![id, 1 + dice.below(CUSTOMERS), time(second), status, total])?;
        for (line, (product, quantity, price)) in (1_u32..).zip(lines) {
            insert_line.execute(params![id, line, product, quantity, price])?;
        }
    }
    Ok(())
}

fn time(second: i64) -> String {
    let time = Timestamp::from_second(second).unwrap_or_default();
    time.to_zoned(TimeZone::UTC).strftime("%Y-%m-%d %H:%M:%S").to_string()
}

/// What a person would look at to see whether all is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Look {
    /// Rows of each table.
    pub(super) rows: Vec<(String, u64)>,
    /// What all orders come to.
    pub(super) revenue_cents: i64,
    /// The newest order: its customer, its time, what it came to.
    pub(super) newest: (String, String, i64),
}

/// Looks at the database.
pub(super) fn look(path: &Path) -> Result<Look, rusqlite::Error> {
    let connection = Connection::open(path)?;
    let count = |table: &str| {
        let sql = format!("SELECT count(*) FROM {table}");
        let rows: i64 = connection.query_row(&sql, [], |row| row.get(0))?;
        Ok::<_, rusqlite::Error>(u64::try_from(rows).unwrap_or(0))
    };
    let mut rows = Vec::new();
    for table in ["customers", "products", "orders", "order_lines"] {
        rows.push((table.to_owned(), count(table)?));
    }
    let revenue_cents = connection.query_row(
        "SELECT sum(quantity * price_cents) FROM order_lines JOIN orders ON orders.id = order_id WHERE status <> 'cancelled'",
        [],
        |row| row.get(0),
    )?;
    let newest = connection.query_row(
        "SELECT customers.name, ordered_at, total_cents FROM orders JOIN customers ON customers.id = customer_id ORDER BY orders.id DESC LIMIT 1",
        [],
        |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)),
    )?;
    Ok(Look { rows, revenue_cents, newest })
}

/// The accident: a year of orders deleted, the customers dropped.
pub(super) fn damage(path: &Path) -> Result<u64, rusqlite::Error> {
    let connection = Connection::open(path)?;
    connection.execute_batch("PRAGMA foreign_keys = OFF;")?;
    let deleted = connection.execute("DELETE FROM orders WHERE ordered_at >= '2026-01-01'", [])?;
    connection.execute_batch("DROP TABLE customers;")?;
    Ok(deleted as u64)
}
