//! The PostgreSQL connector: `source.schema` and `source.table` name the table.
//!
//! `source.ts_ms` is the commit's time to the microsecond, cut to milliseconds. A message of the log
//! (`pg_logical_emit_message`) has both names empty and never comes here.

use super::envelope::{Naming, Unparsable, qualified};

pub(super) const CONNECTOR: &str = "postgresql";

pub(super) fn table(naming: Naming<'_>) -> Result<String, Unparsable> {
    match naming.table {
        "" => Err(Unparsable::missing("source.table")),
        table => Ok(qualified(naming.schema, table)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cdc::Reason;

    #[test]
    fn the_schema_and_not_the_database_qualifies_a_table() {
        let naming = Naming {
            db: "shopdb",
            schema: "shop",
            table: "Price List",
            collection: "",
        };
        assert_eq!(table(naming).unwrap(), "shop.Price List");
        let nameless = Naming {
            table: "",
            ..naming
        };
        assert_eq!(table(nameless).unwrap_err().reason, Reason::MissingField);
    }
}
