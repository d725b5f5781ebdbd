//! How deep a query nests, found without recursion.

use super::token::{TokenKind, tokens};

/// What is known of one open bracket, or of the whole query.
#[derive(Default)]
struct Level {
    /// The deepest operand so far.
    operand: usize,
    /// Operators and postfix modifiers of the current argument: each may add a level to the tree,
    /// for a chain of them leans to one side.
    operators: usize,
    /// The deepest of the arguments already closed by a comma.
    argument: usize,
}

impl Level {
    fn depth(&self) -> usize {
        self.argument.max(self.operand + self.operators)
    }
}

/// An upper bound of the height of the query's syntax tree.
///
/// Brackets that never close count as if they closed at the end, those that close too often are
/// ignored: the parser will say so.
pub(in crate::promql) fn depth(query: &str) -> usize {
    let mut levels = vec![Level::default()];
    let close = |levels: &mut Vec<Level>| {
        if levels.len() > 1
            && let (Some(inner), Some(outer)) = (levels.pop(), levels.last_mut())
        {
            outer.operand = outer.operand.max(inner.depth() + 1);
        }
    };
    for token in tokens(query) {
        match (token.kind, token.text) {
            (_, "(" | "{" | "[") => levels.push(Level::default()),
            (_, ")" | "}" | "]") => close(&mut levels),
            (_, ",") => {
                if let Some(level) = levels.last_mut() {
                    level.argument = level.depth();
                    level.operand = 0;
                    level.operators = 0;
                }
            }
            (TokenKind::Operator, _) => count(&mut levels),
            (TokenKind::Word, word) if is_operator_word(word) => count(&mut levels),
            _ => {}
        }
    }
    while levels.len() > 1 {
        close(&mut levels);
    }
    levels.first().map_or(0, Level::depth) + 1
}

fn count(levels: &mut [Level]) {
    if let Some(level) = levels.last_mut() {
        level.operators += 1;
    }
}

fn is_operator_word(word: &str) -> bool {
    ["and", "or", "unless", "atan2"]
        .iter()
        .any(|operator| word.eq_ignore_ascii_case(operator))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chains_and_brackets_both_deepen() {
        assert_eq!(depth("x"), 1);
        assert_eq!(depth("1 + 1 + 1"), 3);
        assert_eq!(depth("((x))"), 3);
        assert_eq!(depth("sum(rate(x[5m]))"), 4);
        assert_eq!(depth("a or b unless c"), 3);
        assert_eq!(depth("- - - x"), 4);
    }

    #[test]
    fn arguments_nest_beside_each_other() {
        assert_eq!(depth("f(1+1+1, 2, 3+3)"), 4);
        assert_eq!(
            depth("((x)) + 1 + 1"),
            5,
            "the brackets lie under the chain"
        );
    }

    #[test]
    fn text_and_comments_do_not_count() {
        assert_eq!(depth("x{a=\"((((\"} # ((((\n"), 2);
    }

    #[test]
    fn unbalanced_brackets_are_counted_to_the_end() {
        assert_eq!(depth("((x"), 3);
        assert_eq!(depth("x))"), 1);
    }
}
