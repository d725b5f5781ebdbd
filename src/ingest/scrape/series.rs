//! The series of one target: what their labels are here, which are new, which have ended.

use std::borrow::Cow;
use std::collections::HashMap;

use xxhash_rust::xxh3::xxh3_128;

use super::Config;
use crate::ingest::admission::{Admission, Exceeded};
use crate::ingest::text::{self, Entry, Format, Metadata, Parser, text_of};
use crate::model::{Labels, METRIC_NAME, MetricKind, STALE_NAN, Sample, Timestamp};

/// Before the name of a label that a target has and that means something else here.
const EXPORTED: &str = "exported_";

/// Why nothing of an answer is stored.
#[derive(Debug, PartialEq, thiserror::Error)]
pub(super) enum Error {
    #[error(transparent)]
    Syntax(#[from] text::Error),
    #[error(transparent)]
    Limit(#[from] Exceeded),
    #[error("{series} is there twice")]
    Duplicate { series: Labels },
    #[error("sample limit exceeded: {samples} samples, {limit} are allowed (sample_limit)")]
    SampleLimit { samples: u64, limit: usize },
}

/// What a scrape came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) scraped: u64,
    /// Those not there at the last scrape.
    pub(super) added: u64,
}

/// The rules of a job for what its targets answer.
#[derive(Clone, Debug)]
pub(super) struct Rules {
    /// Sorted by name, without a metric's name.
    target: Labels,
    honor_labels: bool,
    honor_timestamps: bool,
    sample_limit: usize,
}

impl Rules {
    pub(super) fn new(config: &Config, target: &Labels) -> Self {
        Self {
            target: target.clone(),
            honor_labels: config.honor_labels,
            honor_timestamps: config.honor_timestamps,
            sample_limit: config.sample_limit,
        }
    }

    /// Shows the labels that a target's series has here, sorted by name when the target's own are.
    ///
    /// With `honor_labels` what the target says counts, also where it says that a label is empty; else
    /// what it says is kept under another name.
    fn with_labels<T>(&self, own: &[(&str, &str)], look: impl FnOnce(&[(&str, &str)]) -> T) -> T {
        let mut merged = Vec::with_capacity(own.len() + self.target.len());
        let mut target = self.target.iter().peekable();
        let mut displaced = Vec::new();
        for &(name, value) in own {
            while let Some(label) = target.next_if(|label| *label.name < *name) {
                merged.push((&*label.name, &*label.value));
            }
            match target.next_if(|label| *label.name == *name) {
                Some(label) if !self.honor_labels => {
                    merged.push((&*label.name, &*label.value));
                    if !value.is_empty() {
                        displaced.push((name, value));
                    }
                }
                _ => merged.push((name, value)),
            }
        }
        merged.extend(target.map(|label| (&*label.name, &*label.value)));
        if displaced.is_empty() {
            return look(&merged);
        }
        let mut renamed: Vec<(String, &str)> = Vec::new();
        for (name, value) in displaced {
            let mut exported = format!("{EXPORTED}{name}");
            let is_taken = |name: &str| {
                merged.iter().any(|(taken, _)| *taken == name)
                    || renamed.iter().any(|(taken, _)| taken == name)
            };
            while is_taken(&exported) {
                exported.insert_str(0, EXPORTED);
            }
            renamed.push((exported, value));
        }
        merged.extend(renamed.iter().map(|(name, value)| (name.as_str(), *value)));
        merged.sort_unstable();
        look(&merged)
    }
}

/// The series that a target had at its last scrape.
#[derive(Debug, Default)]
pub(super) struct Series {
    scrape: u64,
    seen: HashMap<u128, Seen>,
    /// Those that the present scrape added, until it is known to be stored.
    added: Vec<u128>,
}

#[derive(Debug)]
struct Seen {
    labels: Labels,
    /// The scrape that had it last.
    scrape: u64,
    /// Its samples have times of their own: nobody but the target knows when it ends.
    is_timed: bool,
}

impl Series {
    /// Passes every sample of an answer on, then the ends of series that it no longer has.
    ///
    /// After an error what was passed on is to be dropped, and [`Series::end`] to be called.
    pub(super) fn decode(
        &mut self,
        rules: &Rules,
        format: Format,
        body: &[u8],
        at: Timestamp,
        admission: &mut Admission<'_, '_>,
    ) -> (Counts, Result<(), Error>) {
        self.scrape += 1;
        let mut counts = Counts::default();
        let result = self.decode_samples(rules, format, body, at, admission, &mut counts);
        counts.added = self.added.len() as u64;
        let result = result.and_then(|()| Ok(self.end_vanished(at, admission)?));
        if result.is_ok() {
            self.added.clear();
        }
        (counts, result)
    }

    fn decode_samples(
        &mut self,
        rules: &Rules,
        format: Format,
        body: &[u8],
        at: Timestamp,
        admission: &mut Admission<'_, '_>,
        counts: &mut Counts,
    ) -> Result<(), Error> {
        let mut parser = Parser::new(format, text_of(body)?);
        let mut metadata = Metadata::default();
        let mut text = Vec::new();
        let limit = match rules.sample_limit {
            0 => usize::MAX,
            limit => limit,
        };
        let mut kind = MetricKind::Unknown;
        while let Some(entry) = parser.next()? {
            let Entry::Sample { value, timestamp } = entry else {
                if let Entry::Type { kind: found, .. } = entry {
                    kind = found;
                }
                metadata.take(entry);
                continue;
            };
            counts.scraped += 1;
            // The rest is counted, so that it is known by how much there is too much.
            if counts.scraped > limit as u64 {
                continue;
            }
            let own_time = timestamp.filter(|_| rules.honor_timestamps);
            parser.with_labels(|own| {
                let normal = normal_bound(kind, own);
                let own = normal.as_ref().map_or(Cow::Borrowed(own), |(at, text)| {
                    let mut own = own.to_vec();
                    own[*at].1 = text;
                    Cow::Owned(own)
                });
                rules.with_labels(&own, |pairs| {
                    self.see(pairs, own_time.is_some(), &mut text)?;
                    admission.series(pairs);
                    Ok::<_, Error>(())
                })
            })?;
            admission.push(Sample::new(own_time.unwrap_or(at), value))?;
        }
        if counts.scraped > limit as u64 {
            return Err(Error::SampleLimit {
                samples: counts.scraped,
                limit,
            });
        }
        Ok(metadata.describe(admission)?)
    }

    /// Notes that a series is there.
    fn see(
        &mut self,
        pairs: &[(&str, &str)],
        is_timed: bool,
        text: &mut Vec<u8>,
    ) -> Result<(), Error> {
        text.clear();
        for (name, value) in pairs.iter().filter(|(_, value)| !value.is_empty()) {
            for part in [name, value] {
                text.extend_from_slice(part.as_bytes());
                // No byte of a text.
                text.push(0xff);
            }
        }
        let hash = xxh3_128(text);
        if let Some(seen) = self.seen.get_mut(&hash) {
            if seen.scrape == self.scrape && !(seen.is_timed && is_timed) {
                return Err(Error::Duplicate {
                    series: seen.labels.clone(),
                });
            }
            (seen.scrape, seen.is_timed) = (self.scrape, is_timed);
            return Ok(());
        }
        // Labels that are none are refused where they are admitted.
        if let Ok(labels) = Labels::try_from_pairs(pairs.iter().copied()) {
            let seen = Seen {
                labels,
                scrape: self.scrape,
                is_timed,
            };
            self.seen.insert(hash, seen);
            self.added.push(hash);
        }
        Ok(())
    }

    /// Ends the series that the present scrape does not have.
    fn end_vanished(
        &mut self,
        at: Timestamp,
        admission: &mut Admission<'_, '_>,
    ) -> Result<(), Exceeded> {
        let scrape = self.scrape;
        let vanished = self.seen.extract_if(|_, seen| seen.scrape != scrape);
        end(vanished.map(|(_, seen)| seen), at, admission)
    }

    /// Ends every series that there was before a scrape that failed.
    pub(super) fn end(
        &mut self,
        at: Timestamp,
        admission: &mut Admission<'_, '_>,
    ) -> Result<(), Exceeded> {
        for hash in self.added.drain(..) {
            self.seen.remove(&hash);
        }
        end(self.seen.drain().map(|(_, seen)| seen), at, admission)
    }
}

fn end(
    ended: impl Iterator<Item = Seen>,
    at: Timestamp,
    admission: &mut Admission<'_, '_>,
) -> Result<(), Exceeded> {
    for seen in ended.filter(|seen| !seen.is_timed) {
        let labels = seen.labels.iter();
        let pairs: Vec<_> = labels.map(|label| (&*label.name, &*label.value)).collect();
        admission.series(&pairs);
        admission.push(Sample::new(at, STALE_NAN))?;
    }
    Ok(())
}

/// The place of a histogram's `le` or a summary's `quantile` that is not written as Prometheus 3 writes
/// it, and how it does: `1` is `1.0`, whatever the client library. So the same bucket is the same series.
fn normal_bound(kind: MetricKind, pairs: &[(&str, &str)]) -> Option<(usize, String)> {
    let bound = match kind {
        MetricKind::Histogram => "le",
        MetricKind::Summary => "quantile",
        MetricKind::Counter | MetricKind::Gauge | MetricKind::Unknown => return None,
    };
    let at = pairs.iter().position(|(name, _)| *name == bound)?;
    let text = pairs[at].1;
    let normal = normal_float(text.parse().ok()?);
    (normal != text).then_some((at, normal))
}

/// A float as OpenMetrics has it in labels.
fn normal_float(value: f64) -> String {
    if value.is_nan() {
        return "NaN".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned();
    }
    // Go writes an exponent from the million on, with two digits and a sign.
    let text = format!("{value:e}");
    let (digits, exponent) = text.split_once('e').expect("the form has an exponent");
    let exponent: i32 = exponent.parse().expect("the exponent is a number");
    if value != 0.0 && !(-4..6).contains(&exponent) {
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{digits}e{sign}{:02}", exponent.abs());
    }
    let text = value.to_string();
    if text.contains('.') {
        text
    } else {
        format!("{text}.0")
    }
}

/// Passes on a series of ours about a target.
pub(super) fn report(
    metric: &str,
    target: &Labels,
    sample: Sample,
    admission: &mut Admission<'_, '_>,
) -> Result<(), Exceeded> {
    let mut pairs = vec![(METRIC_NAME, metric)];
    pairs.extend(target.iter().map(|label| (&*label.name, &*label.value)));
    pairs.sort_unstable();
    admission.series(&pairs);
    admission.push(sample)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ingest::tests::{Fixture, NOW_MS};

    fn rules(toml: &str) -> Rules {
        let config: Config =
            toml::from_str(&format!("job = \"j\"\ntargets = [\"a:1\"]\n{toml}")).unwrap();
        let targets = config.targets().unwrap();
        Rules::new(&config, &targets[0].labels)
    }

    /// The labels that a series has here.
    fn labels(rules: &Rules, own: &[(&str, &str)]) -> String {
        let mut own = own.to_vec();
        own.sort_unstable();
        rules.with_labels(&own, |pairs| {
            let is_sorted = pairs.windows(2).all(|pair| pair[0].0 < pair[1].0);
            assert!(is_sorted, "{pairs:?}");
            let pairs = pairs.iter().filter(|(name, _)| *name != METRIC_NAME);
            let pairs: Vec<_> = pairs
                .map(|(name, value)| format!("{name}={value}"))
                .collect();
            pairs.join(",")
        })
    }

    #[test]
    fn labels_that_clash_are_kept_under_another_name() {
        let rules = rules("labels = { z = \"1\" }");
        assert_eq!(
            labels(&rules, &[(METRIC_NAME, "x"), ("b", "2")]),
            "b=2,instance=a:1,job=j,z=1"
        );
        assert_eq!(
            labels(&rules, &[("job", "own"), ("z", "")]),
            "exported_job=own,instance=a:1,job=j,z=1"
        );
        assert_eq!(
            labels(&rules, &[("job", "own"), ("exported_job", "e")]),
            "exported_exported_job=own,exported_job=e,instance=a:1,job=j,z=1"
        );
    }

    #[test]
    fn labels_that_are_honored_count_also_when_they_are_empty() {
        let rules = rules("honor_labels = true");
        assert_eq!(
            labels(&rules, &[("job", "own"), ("instance", "")]),
            "instance=,job=own"
        );
        assert_eq!(labels(&rules, &[("b", "2")]), "b=2,instance=a:1,job=j");
    }

    #[test]
    fn bounds_are_written_as_prometheus_writes_them() {
        // By Go's strconv.FormatFloat(_, 'g', -1, 64), with a point where that has none.
        for (value, text) in [
            (1.0, "1.0"),
            (0.5, "0.5"),
            (1e6, "1e+06"),
            (999_999.0, "999999.0"),
            (1_234_567.0, "1.234567e+06"),
            (1e-4, "0.0001"),
            (1e-5, "1e-05"),
            (12345.678, "12345.678"),
            (0.0, "0.0"),
            (1e21, "1e+21"),
            (f64::INFINITY, "+Inf"),
        ] {
            assert_eq!(normal_float(value), text);
        }
        let pairs = [("a", "1"), ("le", "1")];
        let histogram = normal_bound(MetricKind::Histogram, &pairs);
        assert_eq!(histogram, Some((1, "1.0".to_owned())));
        assert_eq!(normal_bound(MetricKind::Gauge, &pairs), None);
        assert_eq!(normal_bound(MetricKind::Summary, &pairs), None);
        assert_eq!(normal_bound(MetricKind::Histogram, &[("le", "x")]), None);
        let quantile = normal_bound(MetricKind::Summary, &[("quantile", "0.50")]);
        assert_eq!(quantile, Some((0, "0.5".to_owned())));
    }

    /// Decodes one text after the other, a second apart; `Err` ends what there was.
    fn scrape(
        fixture: &Fixture,
        series: &mut Series,
        rules: &Rules,
        after_s: i64,
        text: &str,
    ) -> Result<(), String> {
        let at = Timestamp::from_ms(NOW_MS + 1000 * after_s);
        let decoded = fixture.take(|admission| {
            let format = Format::Text;
            let (_, result) = series.decode(rules, format, text.as_bytes(), at, admission);
            result.map_err(|error| error.to_string())
        });
        if decoded.is_err() {
            let ended = fixture.take(|admission| series.end(at, admission));
            ended.unwrap();
        }
        decoded.map(|_| ())
    }

    /// Seconds after the beginning, and the value; `None` is the end.
    type AtValue = (i64, Option<f64>);

    fn stored(fixture: &Fixture) -> Vec<(String, Vec<AtValue>)> {
        let all = fixture.stored().into_iter();
        all.map(|(series, samples)| {
            let samples = samples.into_iter().map(|(at, bits)| {
                let value = f64::from_bits(bits);
                let is_stale = crate::model::is_stale(value);
                ((at - NOW_MS) / 1000, (!is_stale).then_some(value))
            });
            let name = series.split('{').next().unwrap().to_owned();
            (name, samples.collect())
        })
        .collect()
    }

    #[test]
    fn a_series_that_vanishes_ends_and_one_with_its_own_times_does_not() {
        let fixture = Fixture::new();
        let (mut series, rules) = (Series::default(), rules(""));
        let own_time = NOW_MS - 5000;
        let text = format!("a 1\nb 1\ntimed 1 {own_time}\n");
        scrape(&fixture, &mut series, &rules, 0, &text).unwrap();
        scrape(&fixture, &mut series, &rules, 1, "a 2\n").unwrap();
        scrape(&fixture, &mut series, &rules, 2, "b 3\n").unwrap();
        assert_eq!(
            stored(&fixture),
            [
                (
                    "a".to_owned(),
                    vec![(0, Some(1.0)), (1, Some(2.0)), (2, None)]
                ),
                (
                    "b".to_owned(),
                    vec![(0, Some(1.0)), (1, None), (2, Some(3.0))]
                ),
                ("timed".to_owned(), vec![(-5, Some(1.0))]),
            ]
        );
    }

    #[test]
    fn a_scrape_that_fails_ends_everything_once() {
        let fixture = Fixture::new();
        let (mut series, rules) = (Series::default(), rules("sample_limit = 2"));
        scrape(&fixture, &mut series, &rules, 0, "a 1\n").unwrap();
        let error = scrape(&fixture, &mut series, &rules, 1, "a 2\na 3\n").unwrap_err();
        assert_eq!(error, "a{instance=\"a:1\",job=\"j\"} is there twice");
        let error = scrape(&fixture, &mut series, &rules, 2, "a 2\nb 3\nc 1\n").unwrap_err();
        assert_eq!(
            error,
            "sample limit exceeded: 3 samples, 2 are allowed (sample_limit)"
        );
        let error = scrape(&fixture, &mut series, &rules, 3, "a 2\nb{").unwrap_err();
        assert!(error.starts_with("line 2, column 3"), "{error}");
        scrape(&fixture, &mut series, &rules, 4, "a 5\n").unwrap();
        let expected = vec![(0, Some(1.0)), (1, None), (4, Some(5.0))];
        assert_eq!(stored(&fixture), [("a".to_owned(), expected)]);
    }

    #[test]
    fn timestamps_are_taken_only_where_they_are_honored() {
        let fixture = Fixture::new();
        let (mut series, rules) = (Series::default(), rules("honor_timestamps = false"));
        let text = format!("a 1 {}\n", NOW_MS - 5000);
        scrape(&fixture, &mut series, &rules, 0, &text).unwrap();
        assert_eq!(stored(&fixture), [("a".to_owned(), vec![(0, Some(1.0))])]);
    }
}
