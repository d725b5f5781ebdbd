//! Which topics are read: those that the operator names, and those of their connectors that tell
//! whether silence means idleness.

use std::collections::BTreeSet;

use regex::Regex;

use crate::ingest::Error;

/// Topics that Kafka keeps for itself; a pattern never means them.
const INTERNAL: [&str; 2] = ["__consumer_offsets", "__transaction_state"];

/// What the configuration selects.
#[derive(Debug)]
pub(super) struct Selection {
    names: BTreeSet<String>,
    patterns: Vec<Regex>,
    heartbeat_prefix: String,
}

/// The topics of a cluster that are read.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Chosen {
    /// What the operator selected.
    pub(super) data: BTreeSet<String>,
    /// What comes with it: heartbeats, transactions and notifications of the same connectors.
    pub(super) control: BTreeSet<String>,
    /// Names and patterns that no topic matches.
    pub(super) unmatched: Vec<String>,
}

impl Selection {
    pub(super) fn new(topics: &[String], heartbeat_prefix: &str) -> Result<Self, Error> {
        if topics.is_empty() {
            return Err(Error::NoTopics);
        }
        let mut names = BTreeSet::new();
        let mut patterns = Vec::new();
        for (topic, position) in topics.iter().zip(1..) {
            match topic.strip_prefix('^') {
                _ if topic.trim().is_empty() => return Err(Error::EmptyTopic { position }),
                Some(pattern) if matches!(pattern.trim(), "" | "$") => {
                    return Err(Error::EmptyTopic { position });
                }
                Some(_) => {
                    let pattern = Regex::new(topic).map_err(|source| Error::BadPattern {
                        pattern: topic.clone(),
                        source,
                    });
                    patterns.push(pattern?);
                }
                None => {
                    names.insert(topic.clone());
                }
            }
        }
        Ok(Self {
            names,
            patterns,
            heartbeat_prefix: heartbeat_prefix.to_owned(),
        })
    }

    pub(super) fn choose(&self, existing: &BTreeSet<&str>) -> Chosen {
        let mut chosen = Chosen::default();
        for name in &self.names {
            if existing.contains(&**name) {
                chosen.data.insert(name.clone());
            } else {
                chosen.unmatched.push(name.clone());
            }
        }
        for pattern in &self.patterns {
            let matching = existing
                .iter()
                .filter(|topic| !INTERNAL.contains(topic) && pattern.is_match(topic))
                .map(|topic| (*topic).to_owned());
            let matching: BTreeSet<_> = matching.collect();
            if matching.is_empty() {
                chosen.unmatched.push(pattern.to_string());
            }
            chosen.data.extend(matching);
        }
        for topic in &chosen.data {
            for prefix in self.prefixes(topic, existing) {
                let companions = [
                    format!("{}.{prefix}", self.heartbeat_prefix),
                    format!("{prefix}.transaction"),
                    format!("{prefix}.notifications"),
                ];
                let companions = companions.into_iter().filter(|companion| {
                    existing.contains(&**companion) && !chosen.data.contains(companion)
                });
                chosen.control.extend(companions);
            }
        }
        chosen
    }

    /// The connectors' prefixes that a topic may belong to.
    ///
    /// A topic is `prefix.schema.table`, but prefix and table may both hold dots. Where a heartbeat
    /// topic names a prefix it is certain; beside that the usual cut is taken, before the last two
    /// parts.
    fn prefixes<'t>(&self, topic: &'t str, existing: &BTreeSet<&str>) -> BTreeSet<&'t str> {
        let usual = match topic.rmatch_indices('.').nth(1) {
            Some((at, _)) => topic.split_at(at).0,
            // `prefix.transaction`, `prefix.message`, or the schema changes on the prefix itself.
            None => topic.split('.').next().unwrap_or(topic),
        };
        let certain = topic.match_indices('.').filter_map(|(at, _)| {
            let (prefix, _) = topic.split_at(at);
            let heartbeats = format!("{}.{prefix}", self.heartbeat_prefix);
            existing.contains(&*heartbeats).then_some(prefix)
        });
        certain.chain([usual]).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choose(topics: &[&str], existing: &[&str]) -> (Vec<String>, Vec<String>) {
        let topics: Vec<_> = topics.iter().map(|topic| (*topic).to_owned()).collect();
        let selection = Selection::new(&topics, "hb").unwrap();
        let chosen = selection.choose(&existing.iter().copied().collect());
        (
            chosen.data.into_iter().collect(),
            chosen.control.into_iter().collect(),
        )
    }

    fn refused(topics: &[&str]) -> Error {
        let topics: Vec<_> = topics.iter().map(|topic| (*topic).to_owned()).collect();
        Selection::new(&topics, "hb").unwrap_err()
    }

    #[test]
    fn names_match_exactly_and_patterns_from_the_start() {
        let existing = ["a.s.t", "a.s.t2", "b.a.s.t", "a.s"];
        assert_eq!(choose(&["a.s.t"], &existing).0, ["a.s.t"]);
        assert_eq!(choose(&[r"^a\.s\."], &existing).0, ["a.s.t", "a.s.t2"]);
    }

    #[test]
    fn a_table_brings_the_control_topics_of_its_connector_and_no_other() {
        let existing = [
            "srv.s.t",
            "srv.s.other",
            "srv.transaction",
            "srv.notifications",
            "hb.srv",
            "hb.other",
            "other.transaction",
        ];
        let (data, control) = choose(&["srv.s.t"], &existing);
        assert_eq!(data, ["srv.s.t"]);
        assert_eq!(control, ["hb.srv", "srv.notifications", "srv.transaction"]);
    }

    #[test]
    fn a_prefix_with_dots_and_a_table_with_dots_are_found_by_their_heartbeats() {
        let existing = ["eu.srv.s.a.b", "hb.eu.srv", "eu.srv.transaction"];
        let (_, control) = choose(&["eu.srv.s.a.b"], &existing);
        assert_eq!(control, ["eu.srv.transaction", "hb.eu.srv"]);
    }

    #[test]
    fn a_message_or_schema_topic_leads_to_its_connector_too() {
        assert_eq!(
            choose(&["srv.message"], &["srv.message", "hb.srv"]).1,
            ["hb.srv"]
        );
        assert_eq!(choose(&["srv"], &["srv", "hb.srv"]).1, ["hb.srv"]);
    }

    #[test]
    fn a_control_topic_that_is_selected_is_not_listed_twice() {
        let existing = ["srv.s.t", "srv.transaction"];
        let (data, control) = choose(&["^srv"], &existing);
        assert_eq!((data.len(), control.len()), (2, 0));
    }

    #[test]
    fn kafkas_own_topics_are_only_read_by_name() {
        let existing = ["__consumer_offsets", "t"];
        assert_eq!(choose(&["^."], &existing).0, ["t"]);
        assert_eq!(choose(&["__consumer_offsets"], &existing).0.len(), 1);
    }

    #[test]
    fn what_matches_nothing_is_told() {
        let topics = ["a.s.t", "a.s.typo", "^a", "^b"].map(str::to_owned);
        let selection = Selection::new(&topics, "hb").unwrap();
        let chosen = selection.choose(&["a.s.t"].into());
        assert_eq!(chosen.unmatched, ["a.s.typo", "^b"]);
    }

    #[test]
    fn empty_and_broken_patterns_are_refused() {
        assert!(matches!(refused(&[]), Error::NoTopics));
        for empty in ["", "  ", "^", "^$"] {
            let error = refused(&["t", empty]);
            assert!(
                matches!(error, Error::EmptyTopic { position: 2 }),
                "{empty:?}"
            );
        }
        let error = refused(&["^srv.("]).to_string();
        assert!(error.contains("\"^srv.(\""), "{error}");
    }
}
