//! Why a migration was not created or changed.

use super::record::Phase;
use crate::store;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("migration {id:?} does not exist")]
    Unknown { id: String },
    #[error("field {field:?}: {reason}")]
    Invalid { field: &'static str, reason: String },
    #[error("no more than {max} {what} are kept")]
    TooMany { what: &'static str, max: usize },
    #[error("migration {id:?} exists with another {field}: it was {was}, now {now}")]
    Exists {
        id: String,
        field: &'static str,
        was: String,
        now: String,
    },
    /// A total that falls is a tool that counts anew, or an old report that arrives late.
    #[error(
        "{of} was reported as {known}, which cannot fall to {reported}: a tool that starts again continues \
         from the known total, or reports increments as rows_delta with a key"
    )]
    TotalFell {
        of: String,
        known: u64,
        reported: u64,
    },
    #[error("the rows of table {table:?} are counted from CDC events and cannot be reported")]
    CountedByCdc { table: String },
    #[error("migration {id:?} cannot go from {} to {}", from.name(), to.name())]
    Transition { id: String, from: Phase, to: Phase },
    #[error("migration {id:?} is {} and takes no further reports", phase.name())]
    Finished { id: String, phase: Phase },
    #[error(transparent)]
    Store(#[from] store::Error),
}
