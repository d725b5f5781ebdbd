//! Changes in PostgreSQL, and what the server itself says of how many they were.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use super::Counts;

/// The logical name under which the changes are counted.
pub(super) const SOURCE: &str = "shop";
/// The rows that one round of the workload changes.
pub(super) const ROUND: u64 = 100;

/// A statement, its table, and the operations that each row it changes is told as.
///
/// `{from}` stands for a number of which a round has [`ROUND`] to itself.
struct Statement(&'static str, &'static [&'static str], &'static str);

const READ: &[&str] = &["read"];
const CREATE: &[&str] = &["create"];
const UPDATE: &[&str] = &["update"];
const DELETE: &[&str] = &["delete"];
const SILENT: &[&str] = &[];

/// Four tables with rows that the first snapshot reads; `items` has no primary key.
#[rustfmt::skip]
const TABLES: &[Statement] = &[
    Statement("", SILENT, "CREATE SCHEMA sales"),
    Statement("", SILENT, "CREATE TABLE sales.customers (id bigint PRIMARY KEY, name text, city text)"),
    Statement("", SILENT, "CREATE TABLE sales.orders (id bigint PRIMARY KEY, total numeric(12,2))"),
    Statement("", SILENT, "CREATE TABLE sales.items (order_id bigint, line int, sku text)"),
    Statement("", SILENT, "ALTER TABLE sales.items REPLICA IDENTITY FULL"),
    Statement("", SILENT, "CREATE TABLE sales.stock (sku bigint PRIMARY KEY, quantity int)"),
    Statement("customers", READ, "INSERT INTO sales.customers SELECT g FROM generate_series(-20, -1) g"),
    Statement("orders", READ, "INSERT INTO sales.orders SELECT g, 10.5 FROM generate_series(-20, -1) g"),
    Statement("items", READ, "INSERT INTO sales.items SELECT g, 1, 'A' FROM generate_series(-20, -1) g"),
    Statement("stock", READ, "INSERT INTO sales.stock SELECT g, 100 FROM generate_series(-5, -1) g"),
];

/// One round: a transaction over three tables, statements on their own, a transaction that is rolled
/// back, and a change of a primary key, which Debezium tells as a delete and a create.
#[rustfmt::skip]
const CHANGES: &[Statement] = &[
    Statement("", SILENT, "BEGIN"),
    Statement("customers", CREATE, "INSERT INTO sales.customers SELECT g, 'name ' || g FROM generate_series({from}, {from} + 19) g"),
    Statement("orders", CREATE, "INSERT INTO sales.orders SELECT g, g % 1000 FROM generate_series({from}, {from} + 19) g"),
    Statement("items", CREATE, "INSERT INTO sales.items SELECT {from}, g, 'B' FROM generate_series(1, 15) g"),
    Statement("", SILENT, "COMMIT"),
    Statement("customers", UPDATE, "UPDATE sales.customers SET city = 'Bergen' WHERE id BETWEEN {from} AND {from} + 14"),
    Statement("orders", UPDATE, "UPDATE sales.orders SET total = total * 2 WHERE id BETWEEN {from} AND {from} + 9"),
    Statement("orders", DELETE, "DELETE FROM sales.orders WHERE id BETWEEN {from} + 15 AND {from} + 19"),
    Statement("items", DELETE, "DELETE FROM sales.items WHERE order_id = {from} AND line > 10"),
    Statement("", SILENT, "BEGIN"),
    Statement("", SILENT, "DELETE FROM sales.customers"),
    Statement("", SILENT, "ROLLBACK"),
    Statement("stock", CREATE, "INSERT INTO sales.stock SELECT g, 0 FROM generate_series({from}, {from} + 3) g"),
    Statement("stock", UPDATE, "UPDATE sales.stock SET quantity = quantity - 1 WHERE sku < 0"),
    Statement("stock", &["delete", "create"], "UPDATE sales.stock SET sku = sku + 50 WHERE sku = {from}"),
];

/// The source database, driven by `psql`, and the changes that it said it made.
pub(super) struct Database {
    url: String,
    script: PathBuf,
    counts: Counts,
    rounds: u64,
}

impl Database {
    /// Makes the tables; keeps its script in a file of that name.
    pub(super) fn create(url: &str, script: PathBuf) -> Self {
        let mut database = Self {
            url: url.to_owned(),
            script,
            counts: Counts::new(),
            rounds: 0,
        };
        database.run(TABLES.iter().map(|statement| (statement, String::new())));
        database
    }

    /// What a consumer of every change must have counted.
    pub(super) fn counts(&self) -> &Counts {
        &self.counts
    }

    /// Changes so many rows, rounded down to whole rounds.
    pub(super) fn change(&mut self, rows: u64) {
        let rounds = self.rounds..self.rounds + rows / ROUND;
        self.rounds = rounds.end;
        self.run(rounds.flat_map(|round| {
            let from = (round * ROUND).to_string();
            CHANGES
                .iter()
                .map(move |statement| (statement, from.clone()))
        }));
    }

    /// Runs the statements one by one and adds the row counts of their command tags.
    fn run(&mut self, statements: impl Iterator<Item = (&'static Statement, String)> + Clone) {
        let script = statements
            .clone()
            .map(|(Statement(_, _, sql), from)| sql.replace("{from}", &from) + ";\n");
        let output = self.psql(&script.collect::<String>());
        let tags: Vec<&str> = output.lines().collect();
        assert_eq!(
            tags.len(),
            statements.clone().count(),
            "a command tag for each statement"
        );
        for ((Statement(table, operations, sql), _), tag) in statements.zip(tags) {
            for operation in *operations {
                let rows = tag
                    .rsplit(' ')
                    .next()
                    .and_then(|rows| rows.parse::<u64>().ok());
                let rows = rows.unwrap_or_else(|| panic!("{sql}: no row count in {tag}"));
                let key = (
                    SOURCE.to_owned(),
                    format!("sales.{table}"),
                    (*operation).to_owned(),
                );
                *self.counts.entry(key).or_default() += rows;
            }
        }
    }

    /// How many connections follow the log, past their snapshots.
    pub(super) fn followers(&self) -> u64 {
        let sql = "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming';";
        let output = self.psql(sql);
        output.trim().parse().expect("a count is a number")
    }

    /// Answers rows and command tags, a line each.
    fn psql(&self, sql: &str) -> String {
        // From a file: a pipe would fill up while both sides write.
        fs::write(&self.script, sql).expect("the test's folder is writable");
        let output = Command::new("psql")
            .args([&self.url, "-X", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-f"])
            .arg(&self.script)
            .output()
            .expect("psql can be run");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "psql: {}: {errors}", output.status);
        String::from_utf8(output.stdout).expect("psql writes UTF-8")
    }
}
