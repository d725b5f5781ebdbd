//! The MySQL and MariaDB connectors: `source.db` and `source.table` name the table.
//!
//! The binlog's times are whole seconds, so `source.ts_ms` is up to a second early and a lag up to a
//! second too high; it is never too low.

use super::envelope::{Naming, Unparsable, qualified};

pub(super) const CONNECTOR: &str = "mysql";
pub(super) const CONNECTOR_MARIADB: &str = "mariadb";

pub(super) fn table(naming: Naming<'_>) -> Result<String, Unparsable> {
    match naming.table {
        "" => Err(Unparsable::missing("source.table")),
        table => Ok(qualified(naming.db, table)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cdc::Reason;

    #[test]
    fn the_database_qualifies_a_table() {
        let naming = Naming {
            db: "shop_legacy",
            schema: "",
            table: "orders",
            collection: "",
        };
        assert_eq!(table(naming).unwrap(), "shop_legacy.orders");
        let nameless = Naming {
            table: "",
            ..naming
        };
        assert_eq!(table(nameless).unwrap_err().reason, Reason::MissingField);
    }
}
