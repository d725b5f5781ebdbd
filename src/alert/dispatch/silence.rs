//! Silences: between two times, alerts that match are held back.
//!
//! A silence is never removed while somebody may still ask why nothing was said: it expires, and stays
//! for five days after that.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::matchers::Matchers;
use crate::alert::Pairs;
use crate::model::Timestamp;

/// How long an expired silence is kept.
const KEPT: Duration = Duration::from_secs(5 * 86_400);

/// Silences that may exist, expired ones included.
const SILENCES_MAX: usize = 1_000;

const MATCHERS_MAX: usize = 50;
const TEXT_BYTES_MAX: usize = 4 << 10;

/// Alerts that match are held back from `starts_at` up to, but not including, `ends_at`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Silence {
    pub id: String,
    pub matchers: Matchers,
    pub starts_at: Timestamp,
    pub ends_at: Timestamp,
    pub updated_at: Timestamp,
    pub created_by: String,
    pub comment: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It has not begun.
    Pending,
    Active,
    Expired,
}

impl State {
    pub fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Active => "active",
            Self::Expired => "expired",
        }
    }
}

/// A silence as it is asked for.
#[derive(Clone, Debug)]
pub struct Wish {
    /// The silence to change; `None` makes another.
    pub id: Option<String>,
    pub matchers: Matchers,
    pub starts_at: Timestamp,
    pub ends_at: Timestamp,
    pub created_by: String,
    pub comment: String,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("there is no silence {id:?}")]
    Unknown { id: String },
    #[error("{0}")]
    Invalid(String),
    #[error("there are {max} silences already: expired ones go after five days")]
    TooMany { max: usize },
}

impl Silence {
    pub fn state(&self, now: Timestamp) -> State {
        if now < self.starts_at {
            State::Pending
        } else if now < self.ends_at {
            State::Active
        } else {
            State::Expired
        }
    }
}

impl Wish {
    fn check(&self, now: Timestamp) -> Result<(), Error> {
        let invalid = |reason: String| Err(Error::Invalid(reason));
        if self.matchers.matches_empty() {
            return invalid(
                "it would hold back every alert: one matcher has to ask for a value".to_owned(),
            );
        }
        if self.matchers.iter().count() > MATCHERS_MAX {
            return invalid(format!("it has more than {MATCHERS_MAX} matchers"));
        }
        let texts = [&self.created_by, &self.comment];
        if texts.iter().any(|text| text.len() > TEXT_BYTES_MAX) {
            return invalid(format!("author or comment has over {TEXT_BYTES_MAX} bytes"));
        }
        if self.ends_at <= self.starts_at {
            return invalid("it ends before it begins".to_owned());
        }
        if self.ends_at <= now {
            return invalid("it ends in the past".to_owned());
        }
        Ok(())
    }
}

/// All silences by id.
#[derive(Debug, Default)]
pub(super) struct Silences(BTreeMap<String, Silence>);

impl Silences {
    pub(super) fn restore(silences: impl Iterator<Item = Silence>) -> Self {
        Self(
            silences
                .map(|silence| (silence.id.clone(), silence))
                .collect(),
        )
    }

    pub(super) fn get(&self, id: &str) -> Option<&Silence> {
        self.0.get(id)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Silence> {
        self.0.values()
    }

    /// Makes a silence, or changes one; answers the ids of those that changed, the wanted one last.
    ///
    /// One that has expired, or whose alerts would become others, stays as it was said to be: it ends
    /// now and a new one, under `fresh_id`, takes its place.
    pub(super) fn set(
        &mut self,
        now: Timestamp,
        wish: Wish,
        fresh_id: String,
    ) -> Result<Vec<String>, Error> {
        wish.check(now)?;
        let mut changed = Vec::new();
        let mut starts_at = wish.starts_at.max(now);
        let mut id = fresh_id;
        if let Some(wanted) = wish.id {
            let unknown = || Error::Unknown { id: wanted.clone() };
            let known = self.0.get_mut(&wanted).ok_or_else(unknown)?;
            match known.state(now) {
                State::Expired => {}
                state if known.matchers == wish.matchers => {
                    if state == State::Active {
                        starts_at = known.starts_at;
                    }
                    id = wanted;
                }
                State::Pending | State::Active => {
                    expire(known, now);
                    changed.push(wanted);
                }
            }
        }
        if !self.0.contains_key(&id) && self.0.len() >= SILENCES_MAX {
            return Err(Error::TooMany { max: SILENCES_MAX });
        }
        let silence = Silence {
            id: id.clone(),
            matchers: wish.matchers,
            starts_at,
            ends_at: wish.ends_at,
            updated_at: now,
            created_by: wish.created_by,
            comment: wish.comment,
        };
        self.0.insert(id.clone(), silence);
        changed.push(id);
        Ok(changed)
    }

    /// Ends a silence now; whether that changed anything.
    pub(super) fn expire(&mut self, now: Timestamp, id: &str) -> Result<bool, Error> {
        let unknown = || Error::Unknown { id: id.to_owned() };
        let silence = self.0.get_mut(id).ok_or_else(unknown)?;
        if silence.state(now) == State::Expired {
            return Ok(false);
        }
        expire(silence, now);
        Ok(true)
    }

    /// The silences that hold an alert back.
    pub(super) fn holding<'a>(
        &'a self,
        now: Timestamp,
        labels: &'a Pairs,
    ) -> impl Iterator<Item = &'a Silence> {
        self.0
            .values()
            .filter(move |silence| silence.state(now) == State::Active)
            .filter(|silence| silence.matchers.matches(labels))
    }

    /// Forgets those that expired long ago, and answers their ids.
    pub(super) fn forget(&mut self, now: Timestamp) -> Vec<String> {
        let is_old = |silence: &&Silence| silence.ends_at.after(KEPT) <= now;
        let old = self.0.values().filter(is_old);
        let old: Vec<String> = old.map(|silence| silence.id.clone()).collect();
        for id in &old {
            self.0.remove(id);
        }
        old
    }
}

fn expire(silence: &mut Silence, now: Timestamp) {
    silence.starts_at = silence.starts_at.min(now);
    (silence.ends_at, silence.updated_at) = (now, now);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_ms(seconds * 1_000)
    }

    fn wish(matcher: &str, from: i64, to: i64) -> Wish {
        Wish {
            id: None,
            matchers: Matchers::try_from(vec![matcher.to_owned()]).unwrap(),
            starts_at: at(from),
            ends_at: at(to),
            created_by: "ops".into(),
            comment: "planned".into(),
        }
    }

    fn alert() -> Pairs {
        [("job".to_owned(), "a".to_owned())].into()
    }

    fn holds(silences: &Silences, seconds: i64) -> bool {
        silences.holding(at(seconds), &alert()).next().is_some()
    }

    #[test]
    fn a_silence_holds_from_its_start_up_to_its_end() {
        let mut silences = Silences::default();
        silences
            .set(at(0), wish("job=a", 10, 20), "s1".into())
            .unwrap();
        silences
            .set(at(0), wish("job=b", 0, 20), "s2".into())
            .unwrap();
        let held: Vec<bool> = [9, 10, 19, 20].map(|time| holds(&silences, time)).into();
        assert_eq!(held, [false, true, true, false]);
    }

    #[test]
    fn a_silence_of_the_past_begins_now() {
        let mut silences = Silences::default();
        silences
            .set(at(100), wish("job=a", 10, 200), "s1".into())
            .unwrap();
        assert_eq!(silences.get("s1").unwrap().starts_at, at(100));
    }

    #[test]
    fn a_change_of_times_keeps_the_id_and_one_of_matchers_does_not() {
        let mut silences = Silences::default();
        silences
            .set(at(0), wish("job=a", 0, 20), "s1".into())
            .unwrap();
        let longer = Wish {
            id: Some("s1".into()),
            ..wish("job=a", 5, 30)
        };
        assert_eq!(silences.set(at(5), longer, "s2".into()).unwrap(), ["s1"]);
        let kept = silences.get("s1").unwrap();
        assert_eq!((kept.starts_at, kept.ends_at), (at(0), at(30)));
        let others = Wish {
            id: Some("s1".into()),
            ..wish("job=b", 6, 30)
        };
        assert_eq!(
            silences.set(at(6), others, "s2".into()).unwrap(),
            ["s1", "s2"]
        );
        assert_eq!(silences.get("s1").unwrap().state(at(6)), State::Expired);
        assert_eq!(silences.get("s2").unwrap().state(at(6)), State::Active);
        let again = Wish {
            id: Some("s1".into()),
            ..wish("job=a", 7, 30)
        };
        assert_eq!(silences.set(at(7), again, "s3".into()).unwrap(), ["s3"]);
    }

    #[test]
    fn an_expired_silence_holds_nothing_and_is_forgotten_after_five_days() {
        let mut silences = Silences::default();
        silences
            .set(at(0), wish("job=a", 50, 99), "s1".into())
            .unwrap();
        assert_eq!(silences.expire(at(10), "s1"), Ok(true));
        assert_eq!(silences.expire(at(11), "s1"), Ok(false));
        assert!(!holds(&silences, 60));
        let days = 5 * 86_400;
        assert!(silences.forget(at(10 + days - 1)).is_empty());
        assert_eq!(silences.forget(at(10 + days)), ["s1"]);
        let unknown = Error::Unknown { id: "s1".into() };
        assert_eq!(silences.expire(at(10), "s1"), Err(unknown));
    }

    #[test]
    fn what_cannot_be_a_silence_says_why() {
        let mut silences = Silences::default();
        let mut refusal = |wish: Wish| {
            let refused = silences.set(at(100), wish, "s1".into());
            refused.unwrap_err().to_string()
        };
        assert!(refusal(wish("job=~.*", 0, 200)).contains("every alert"));
        assert!(refusal(wish("job=a", 150, 150)).contains("before it begins"));
        assert!(refusal(wish("job=a", 0, 100)).contains("in the past"));
        let long = Wish {
            comment: "x".repeat(5_000),
            ..wish("job=a", 0, 200)
        };
        assert!(refusal(long).contains("4096 bytes"));
        let missing = Wish {
            id: Some("none".into()),
            ..wish("job=a", 0, 200)
        };
        assert_eq!(refusal(missing), "there is no silence \"none\"");
    }
}
