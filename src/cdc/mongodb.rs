//! The MongoDB connector: `source.db` and `source.collection` name the collection.
//!
//! There is no `source.table`, and the topic's name will not do instead: characters that Kafka does not
//! take are replaced in it. All events of a transaction carry the time of its commit.

use super::envelope::{Naming, Unparsable, qualified};

pub(super) const CONNECTOR: &str = "mongodb";

pub(super) fn table(naming: Naming<'_>) -> Result<String, Unparsable> {
    match naming.collection {
        "" => Err(Unparsable::missing("source.collection")),
        collection => Ok(qualified(naming.db, collection)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cdc::Reason;

    #[test]
    fn the_database_qualifies_a_collection() {
        let naming = Naming {
            db: "shopdocs",
            schema: "",
            table: "",
            collection: "Price List",
        };
        assert_eq!(table(naming).unwrap(), "shopdocs.Price List");
        let nameless = Naming {
            collection: "",
            ..naming
        };
        assert_eq!(table(nameless).unwrap_err().reason, Reason::MissingField);
    }
}
