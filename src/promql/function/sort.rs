//! `sort` and `sort_by_label`: the order of an instant query's result.

use std::cmp::Ordering;

use crate::promql::value::{Grid, Series};

/// A sort; over a range it changes nothing, for there series come by labels.
#[derive(Clone, Debug)]
pub(in crate::promql) struct Sort {
    by: By,
    is_descending: bool,
}

#[derive(Clone, Debug)]
enum By {
    Value,
    Labels(Vec<String>),
}

impl Sort {
    pub(super) fn of(name: &str, texts: &[String]) -> Option<Self> {
        let (by, is_descending) = match name {
            "sort" => (By::Value, false),
            "sort_desc" => (By::Value, true),
            "sort_by_label" => (By::Labels(texts.to_vec()), false),
            "sort_by_label_desc" => (By::Labels(texts.to_vec()), true),
            _ => return None,
        };
        Some(Self { by, is_descending })
    }

    pub(super) fn evaluate(&self, mut series: Vec<Series>, steps: Grid) -> Vec<Series> {
        if steps.len != 1 {
            return series;
        }
        match &self.by {
            By::Value => series.sort_by(|left, right| {
                let (left, right) = (left.values[0], right.values[0]);
                // NaNs come last in either direction.
                left.is_nan().cmp(&right.is_nan()).then_with(|| {
                    self.directed(left.partial_cmp(&right).unwrap_or(Ordering::Equal))
                })
            }),
            By::Labels(names) => series.sort_by(|left, right| {
                let by_names = names
                    .iter()
                    .map(|name| natural(left.labels.value(name), right.labels.value(name)))
                    .find(|order| order.is_ne());
                self.directed(by_names.unwrap_or_else(|| left.labels.cmp(&right.labels)))
            }),
        }
        series
    }

    fn directed(&self, order: Ordering) -> Ordering {
        if self.is_descending {
            order.reverse()
        } else {
            order
        }
    }
}

/// The order in which people read names: runs of digits by their number, all else by character.
fn natural(left: &str, right: &str) -> Ordering {
    let mut left = Pieces(left);
    let mut right = Pieces(right);
    loop {
        let order = match (left.next(), right.next()) {
            (None, None) => return Ordering::Equal,
            (None, Some(_)) => return Ordering::Less,
            (Some(_), None) => return Ordering::Greater,
            (Some(Piece::Number(left)), Some(Piece::Number(right))) => {
                let digits = |number: &str| number.trim_start_matches('0').len();
                digits(left)
                    .cmp(&digits(right))
                    .then_with(|| {
                        left.trim_start_matches('0')
                            .cmp(right.trim_start_matches('0'))
                    })
                    .then_with(|| left.len().cmp(&right.len()))
            }
            (Some(left), Some(right)) => left.text().cmp(right.text()),
        };
        if order.is_ne() {
            return order;
        }
    }
}

/// Cuts a text into runs of digits and runs of others.
struct Pieces<'a>(&'a str);

enum Piece<'a> {
    Number(&'a str),
    Text(&'a str),
}

impl<'a> Piece<'a> {
    fn text(&self) -> &'a str {
        match self {
            Self::Number(text) | Self::Text(text) => text,
        }
    }
}

impl<'a> Iterator for Pieces<'a> {
    type Item = Piece<'a>;

    fn next(&mut self) -> Option<Piece<'a>> {
        let is_digit = |character: char| character.is_ascii_digit();
        let is_number = self.0.starts_with(is_digit);
        let end = self
            .0
            .find(|character| is_digit(character) != is_number)
            .unwrap_or(self.0.len());
        let (piece, rest) = self.0.split_at(end);
        self.0 = rest;
        match (piece, is_number) {
            ("", _) => None,
            (piece, true) => Some(Piece::Number(piece)),
            (piece, false) => Some(Piece::Text(piece)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_in_names_are_compared_as_numbers() {
        let mut names = ["n10", "n9", "n", "a2b", "a02b", "a10", "2", "10", ""];
        names.sort_by(|left, right| natural(left, right));
        assert_eq!(
            names,
            ["", "2", "10", "a2b", "a02b", "a10", "n", "n9", "n10"]
        );
    }
}
