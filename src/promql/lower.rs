//! From syntax tree to plan.
//!
//! The tree carries no positions, so it is walked in the order of the text with the tokens beside
//! it. Everything that depends on the text alone is settled here: types, matchers, regexes, names.

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::time::SystemTime;

use promql_parser::label::{MatchOp as ParsedOp, Matchers};
use promql_parser::parser::token::{self, TokenId};
use promql_parser::parser::{
    AggregateExpr, AtModifier, BinModifier, BinaryExpr, Call as ParsedCall, Expr, LabelModifier,
    Offset, VectorMatchCardinality, VectorSelector, value::ValueType as ParsedType,
};

use super::error::Error;
use super::function::{Function, info};
use super::parse::{Parsed, Token, TokenKind, is_info_mark, parse};
use super::plan::{
    Aggregate, Aggregation, Arithmetic, At, Binary, Call, Cardinality, Comparison, Kind, LabelSet,
    Matching, Node, Operator, Plan, Range, Select, Selection, SetOperator, Shift, Source,
    ValueType,
};
use crate::model::{METRIC_NAME, MatchOp, Matcher};

/// The step of a subquery that names none: Prometheus' default evaluation interval.
const SUBQUERY_STEP_MS: i64 = 60_000;

/// Plans a query whose nesting has been bounded.
pub(super) fn plan(query: &str) -> Result<Plan, Error> {
    let Parsed { expr, tokens } = parse(query)?;
    let mut lowering = Lowering {
        tokens: &tokens,
        next: 0,
        selections: Vec::new(),
        known: HashMap::new(),
        texts: HashMap::new(),
    };
    let mut root = lowering.node(&expr)?;
    forget_singles(&mut root);
    Ok(Plan {
        root,
        selections: lowering.selections,
    })
}

/// Leaves a number on those expressions only whose text stands in the query more than once.
fn forget_singles(root: &mut Node) {
    let mut counts: HashMap<usize, usize> = HashMap::new();
    root.each_mut(&mut |node| {
        if let Some(number) = node.repeated {
            *counts.entry(number).or_default() += 1;
        }
    });
    root.each_mut(&mut |node| {
        node.repeated = node.repeated.filter(|number| counts[number] > 1);
    });
}

struct Lowering<'a> {
    tokens: &'a [Token<'a>],
    next: usize,
    selections: Vec<Selection>,
    /// The selections by what they ask.
    known: HashMap<String, usize>,
    /// The texts of calls and aggregations, numbered.
    texts: HashMap<String, usize>,
}

/// Longer expressions hardly repeat, and to compare them would cost more with every level.
const REPEATED_TOKENS_MAX: usize = 256;

impl Lowering<'_> {
    fn node(&mut self, expr: &Expr) -> Result<Node, Error> {
        match expr {
            Expr::Binary(binary) => return self.binary(binary),
            Expr::Subquery(subquery) => {
                let inner = self.node(&subquery.expr)?;
                let at = inner.at;
                self.skip_group();
                self.skip_shift();
                let step_ms = match subquery.step {
                    Some(step) => positive_ms(step, "subquery step")?,
                    None => SUBQUERY_STEP_MS,
                };
                let kind = Kind::Range(Range {
                    source: Source::Subquery {
                        expr: Box::new(inner),
                        step_ms,
                    },
                    window_ms: positive_ms(subquery.range, "subquery range")?,
                    shift: shift(subquery.offset.as_ref(), subquery.at.as_ref()),
                });
                return Ok(Node::new(kind, at));
            }
            _ => {}
        }
        // A unary plus leaves no trace in the tree.
        while self.peek() == "+" {
            self.next += 1;
        }
        let (at, first) = (self.at(), self.next);
        let mut repeated = None;
        let kind = match expr {
            Expr::Paren(paren) => {
                self.next += 1;
                let inner = self.node(&paren.expr)?;
                self.next += 1;
                repeated = inner.repeated;
                inner.kind
            }
            Expr::Unary(unary) => {
                self.next += 1;
                Kind::Negate(Box::new(self.node(&unary.expr)?))
            }
            Expr::NumberLiteral(literal) => {
                // The sign of a literal is folded into it.
                while matches!(self.peek(), "+" | "-") {
                    self.next += 1;
                }
                self.next += 1;
                Kind::Number(literal.val)
            }
            Expr::StringLiteral(literal) => {
                self.next += 1;
                Kind::Text(literal.val.clone())
            }
            Expr::VectorSelector(selector) => {
                self.skip_selector();
                self.skip_shift();
                Kind::Select(Select {
                    selection: self.selection(selector)?,
                    shift: shift(selector.offset.as_ref(), selector.at.as_ref()),
                })
            }
            Expr::MatrixSelector(matrix) => {
                self.skip_selector();
                self.skip_group();
                self.skip_shift();
                Kind::Range(Range {
                    source: Source::Samples(self.selection(&matrix.vs)?),
                    window_ms: positive_ms(matrix.range, "range")?,
                    shift: shift(matrix.vs.offset.as_ref(), matrix.vs.at.as_ref()),
                })
            }
            Expr::Aggregate(aggregate) => self.aggregate(aggregate)?,
            Expr::Call(call) => self.call(call)?,
            Expr::Binary(_) | Expr::Subquery(_) => unreachable!("returned above"),
            Expr::Extension(extension) => {
                return Err(unsupported(&format!(
                    "extension {:?}",
                    extension.expr.name()
                )));
            }
        };
        if matches!(kind, Kind::Call(_) | Kind::Aggregate(_)) && repeated.is_none() {
            repeated = self.number_of_text(first);
        }
        Ok(Node { kind, at, repeated })
    }

    /// A number for the text of the tokens since `first`, the same for the same text.
    fn number_of_text(&mut self, first: usize) -> Option<usize> {
        let tokens = self.tokens.get(first..self.next)?;
        if tokens.len() > REPEATED_TOKENS_MAX {
            return None;
        }
        let texts: Vec<&str> = tokens.iter().map(|token| token.text).collect();
        let next = self.texts.len();
        Some(*self.texts.entry(texts.join(" ")).or_insert(next))
    }

    fn binary(&mut self, expr: &BinaryExpr) -> Result<Node, Error> {
        let op = operator(expr.op.id())
            .ok_or_else(|| unsupported(&format!("operator {:?}", expr.op.to_string())))?;
        let left = self.node(&expr.lhs)?;
        self.next += 1;
        self.skip_matching();
        let right = self.node(&expr.rhs)?;
        let at = left.at;
        let matching = matching(expr.modifier.as_ref());
        let is_filled = matching.fill_left.is_some() || matching.fill_right.is_some();
        let between_vectors = left.value_type() == ValueType::Vector
            && right.value_type() == ValueType::Vector
            && !matches!(op, Operator::Set(_));
        if is_filled && !between_vectors {
            return Err(Error::bad_data(
                "parse error: fill modifiers are only allowed between vectors, and not with set operators",
            ));
        }
        let kind = Kind::Binary(Box::new(Binary {
            op,
            left,
            right,
            return_bool: expr.return_bool(),
            matching,
        }));
        Ok(Node::new(kind, at))
    }

    fn aggregate(&mut self, expr: &AggregateExpr) -> Result<Kind, Error> {
        self.next += 1;
        self.skip_grouping();
        self.next += 1;
        let param = match &expr.param {
            Some(param) => {
                let param = self.node(param)?;
                self.next += 1;
                Some(param)
            }
            None => None,
        };
        let inner = self.node(&expr.expr)?;
        self.next += 1;
        self.skip_grouping();
        Ok(Kind::Aggregate(Box::new(Aggregate {
            op: aggregation(expr.op.id(), param)?,
            expr: inner,
            grouping: match &expr.modifier {
                None => LabelSet::Only(Vec::new()),
                Some(modifier) => label_set(modifier),
            },
        })))
    }

    fn call(&mut self, expr: &ParsedCall) -> Result<Kind, Error> {
        let name = expr.func.name;
        self.next += 2;
        if name == "info" {
            return self.info(&expr.args.args);
        }
        let mut args = Vec::with_capacity(expr.args.len());
        for (index, arg) in expr.args.args.iter().enumerate() {
            if index > 0 {
                self.next += 1;
            }
            args.push(self.node(arg)?);
        }
        self.next += 1;
        for (arg, expected) in args.iter().zip(declared(expr, args.len())) {
            if arg.value_type() != expected {
                return Err(Error::bad_data(format!(
                    "parse error: expected type {} in call to function {name:?}, got {}",
                    expected.name(),
                    arg.value_type().name()
                )));
            }
        }
        let function = Function::of(name, &args, &self.selections)?;
        Ok(Kind::Call(Box::new(Call { function, args })))
    }

    /// `info`, whose second argument looks like a selector and is a list of labels to add.
    fn info(&mut self, args: &[Box<Expr>]) -> Result<Kind, Error> {
        let base = match args.first() {
            Some(base) => self.node(base)?,
            None => return Err(Error::bad_data("parse error: info needs a vector")),
        };
        if base.value_type() != ValueType::Vector {
            return Err(Error::bad_data(format!(
                "parse error: expected type instant vector in call to function \"info\", got {}",
                base.value_type().name()
            )));
        }
        let at = self.at();
        let selector = match args.get(1).map(|arg| &**arg) {
            None => None,
            Some(Expr::VectorSelector(selector))
                if selector.name.is_none()
                    && selector.offset.is_none()
                    && selector.at.is_none() =>
            {
                self.next += 1;
                self.skip_selector();
                let mut branches = branches(selector)?;
                if branches.len() > 1 {
                    return Err(unsupported("\"or\" between the label matchers of info"));
                }
                let mut matchers = branches.pop().unwrap_or_default();
                matchers.retain(|matcher| !is_info_mark(matcher));
                Some(matchers)
            }
            Some(_) => {
                return Err(Error::bad_data(
                    "parse error: expected label selectors only as the second argument of info",
                ));
            }
        };
        self.next += 1;
        let function = Function::Info(info::Info::of(selector.as_deref()));
        let selection = self.shared(Selection {
            branches: vec![info::series_matchers(selector.as_deref())],
        });
        let kind = Kind::Select(Select {
            selection,
            shift: Shift::NONE,
        });
        let args = vec![base, Node::new(kind, at)];
        Ok(Kind::Call(Box::new(Call { function, args })))
    }

    /// The number of the selector's series, shared with equal selectors.
    fn selection(&mut self, selector: &VectorSelector) -> Result<usize, Error> {
        let selection = Selection {
            branches: branches(selector)?,
        };
        Ok(self.shared(selection))
    }

    fn shared(&mut self, selection: Selection) -> usize {
        *self.known.entry(selection.key()).or_insert_with(|| {
            self.selections.push(selection);
            self.selections.len() - 1
        })
    }

    // What follows moves through the tokens. None of it can fail: should the tree and the tokens
    // ever disagree, positions of remarks are wrong and nothing else.

    fn peek(&self) -> &str {
        self.tokens.get(self.next).map_or("", |token| token.text)
    }

    fn peek_word_in(&self, words: &[&str]) -> bool {
        self.tokens.get(self.next).is_some_and(|token| {
            token.kind == TokenKind::Word
                && words
                    .iter()
                    .any(|word| token.text.eq_ignore_ascii_case(word))
        })
    }

    fn at(&self) -> usize {
        self.tokens.get(self.next).map_or(0, |token| token.at)
    }

    /// Over a bracket and all it holds.
    fn skip_group(&mut self) {
        let mut open = 0_usize;
        while let Some(token) = self.tokens.get(self.next) {
            match token.text {
                "(" | "[" | "{" => open += 1,
                ")" | "]" | "}" => open = open.saturating_sub(1),
                _ => {}
            }
            self.next += 1;
            if open == 0 {
                break;
            }
        }
    }

    fn skip_selector(&mut self) {
        if self.peek() != "{" {
            self.next += 1;
        }
        if self.peek() == "{" {
            self.skip_group();
        }
    }

    fn skip_signs(&mut self) {
        while matches!(self.peek(), "+" | "-") {
            self.next += 1;
        }
    }

    /// Over `offset` and `@` with their arguments.
    fn skip_shift(&mut self) {
        loop {
            if self.peek() == "@" {
                self.next += 1;
                self.skip_signs();
                self.next += 1;
                if self.peek() == "(" {
                    self.skip_group();
                }
            } else if self.peek_word_in(&["offset"]) {
                self.next += 1;
                self.skip_signs();
                if self.peek() == "(" {
                    self.skip_group();
                } else {
                    self.next += 1;
                }
            } else {
                break;
            }
        }
    }

    fn skip_grouping(&mut self) {
        if self.peek_word_in(&["by", "without"]) {
            self.next += 1;
            self.skip_group();
        }
    }

    fn skip_matching(&mut self) {
        loop {
            let is_fill = self.peek_word_in(&["fill", "fill_left", "fill_right"])
                && self
                    .tokens
                    .get(self.next + 1)
                    .is_some_and(|token| token.text == "(");
            if self.peek_word_in(&["bool"]) {
                self.next += 1;
            } else if is_fill || self.peek_word_in(&["on", "ignoring", "group_left", "group_right"])
            {
                self.next += 1;
                if self.peek() == "(" {
                    self.skip_group();
                }
            } else {
                break;
            }
        }
    }
}

/// The types that a function declares for so many arguments; the last repeats.
fn declared(call: &ParsedCall, count: usize) -> impl Iterator<Item = ValueType> {
    let types = &call.func.arg_types;
    (0..count).filter_map(move |index| {
        let declared = types.get(index).or(types.last())?;
        Some(match declared {
            ParsedType::Vector => ValueType::Vector,
            ParsedType::Scalar => ValueType::Scalar,
            ParsedType::Matrix => ValueType::Range,
            ParsedType::String => ValueType::Text,
        })
    })
}

fn unsupported(construct: &str) -> Error {
    Error::bad_data(format!("{construct} is not supported"))
}

fn positive_ms(span: std::time::Duration, what: &str) -> Result<i64, Error> {
    i64::try_from(span.as_millis())
        .ok()
        .filter(|span_ms| *span_ms > 0)
        .ok_or_else(|| Error::bad_data(format!("parse error: {what} has to be at least 1ms")))
}

fn shift(offset: Option<&Offset>, at: Option<&AtModifier>) -> Shift {
    let ms = |span: &std::time::Duration| i64::try_from(span.as_millis()).unwrap_or(i64::MAX);
    let offset_ms = match offset {
        None => 0,
        Some(Offset::Pos(span)) => ms(span),
        Some(Offset::Neg(span)) => -ms(span),
    };
    let at = match at {
        None => None,
        Some(AtModifier::Start) => Some(At::QueryStart),
        Some(AtModifier::End) => Some(At::QueryEnd),
        Some(AtModifier::At(time)) => Some(At::Time(
            match time.duration_since(SystemTime::UNIX_EPOCH) {
                Ok(span) => ms(&span),
                Err(before) => -ms(&before.duration()),
            },
        )),
    };
    Shift { offset_ms, at }
}

fn branches(selector: &VectorSelector) -> Result<Vec<Vec<Matcher>>, Error> {
    let Matchers {
        matchers,
        or_matchers,
    } = &selector.matchers;
    let parsed: Vec<_> = if or_matchers.is_empty() {
        vec![matchers]
    } else {
        or_matchers.iter().collect()
    };
    parsed
        .into_iter()
        .map(|branch| {
            let name = selector
                .name
                .iter()
                .map(|name| Ok(Matcher::equal(METRIC_NAME, name)));
            name.chain(branch.iter().map(matcher)).collect()
        })
        .collect()
}

fn matcher(parsed: &promql_parser::label::Matcher) -> Result<Matcher, Error> {
    // The parser escapes braces that Go reads literally; what it compiled is taken over.
    let pattern = |regex: &regex::Regex| {
        let anchored = regex.as_str();
        anchored
            .strip_prefix("^(?:")
            .and_then(|rest| rest.strip_suffix(")$"))
            .unwrap_or(anchored)
            .to_owned()
    };
    let (op, value) = match &parsed.op {
        ParsedOp::Equal => (MatchOp::Equal, parsed.value.clone()),
        ParsedOp::NotEqual => (MatchOp::NotEqual, parsed.value.clone()),
        ParsedOp::Re(regex) => (MatchOp::Regex, pattern(regex)),
        ParsedOp::NotRe(regex) => (MatchOp::NotRegex, pattern(regex)),
    };
    Matcher::new(parsed.name.clone(), op, value)
        .map_err(|error| Error::bad_data(format!("parse error: {error}: {:?}", parsed.value)))
}

fn label_set(modifier: &LabelModifier) -> LabelSet {
    match modifier {
        LabelModifier::Include(names) => LabelSet::Only(names.labels.clone()),
        LabelModifier::Exclude(names) => LabelSet::Except(names.labels.clone()),
    }
}

fn matching(modifier: Option<&BinModifier>) -> Matching {
    let labels = modifier
        .and_then(|modifier| modifier.matching.as_ref())
        .map_or_else(|| LabelSet::Except(Vec::new()), label_set);
    let cardinality = match modifier.map(|modifier| &modifier.card) {
        Some(VectorMatchCardinality::ManyToOne(names)) => {
            Cardinality::ManyToOne(names.labels.clone())
        }
        Some(VectorMatchCardinality::OneToMany(names)) => {
            Cardinality::OneToMany(names.labels.clone())
        }
        Some(VectorMatchCardinality::OneToOne | VectorMatchCardinality::ManyToMany) | None => {
            Cardinality::OneToOne
        }
    };
    Matching {
        labels,
        cardinality,
        fill_left: modifier.and_then(|modifier| modifier.fill_values.lhs),
        fill_right: modifier.and_then(|modifier| modifier.fill_values.rhs),
    }
}

fn operator(id: TokenId) -> Option<Operator> {
    Some(match id {
        token::T_ADD => Operator::Arithmetic(Arithmetic::Add),
        token::T_SUB => Operator::Arithmetic(Arithmetic::Sub),
        token::T_MUL => Operator::Arithmetic(Arithmetic::Mul),
        token::T_DIV => Operator::Arithmetic(Arithmetic::Div),
        token::T_MOD => Operator::Arithmetic(Arithmetic::Mod),
        token::T_POW => Operator::Arithmetic(Arithmetic::Pow),
        token::T_ATAN2 => Operator::Arithmetic(Arithmetic::Atan2),
        token::T_EQLC => Operator::Comparison(Comparison::Equal),
        token::T_NEQ => Operator::Comparison(Comparison::NotEqual),
        token::T_LSS => Operator::Comparison(Comparison::Less),
        token::T_LTE => Operator::Comparison(Comparison::LessOrEqual),
        token::T_GTR => Operator::Comparison(Comparison::Greater),
        token::T_GTE => Operator::Comparison(Comparison::GreaterOrEqual),
        token::T_LAND => Operator::Set(SetOperator::And),
        token::T_LOR => Operator::Set(SetOperator::Or),
        token::T_LUNLESS => Operator::Set(SetOperator::Unless),
        _ => return None,
    })
}

fn aggregation(id: TokenId, param: Option<Node>) -> Result<Aggregation, Error> {
    let scalar = |param: Option<Node>| match param {
        Some(param) if param.value_type() == ValueType::Scalar => Ok(param),
        _ => Err(Error::bad_data(
            "parse error: expected type scalar in aggregation parameter",
        )),
    };
    Ok(match id {
        token::T_SUM => Aggregation::Sum,
        token::T_AVG => Aggregation::Avg,
        token::T_MIN => Aggregation::Min,
        token::T_MAX => Aggregation::Max,
        token::T_COUNT => Aggregation::Count,
        token::T_GROUP => Aggregation::Group,
        token::T_STDDEV => Aggregation::Stddev,
        token::T_STDVAR => Aggregation::Stdvar,
        token::T_QUANTILE => Aggregation::Quantile(scalar(param)?),
        token::T_TOPK => Aggregation::TopK(scalar(param)?),
        token::T_BOTTOMK => Aggregation::BottomK(scalar(param)?),
        token::T_LIMITK => Aggregation::LimitK(scalar(param)?),
        token::T_LIMIT_RATIO => Aggregation::LimitRatio(scalar(param)?),
        token::T_COUNT_VALUES => match param.map(|param| param.kind) {
            Some(Kind::Text(label)) if !label.is_empty() => Aggregation::CountValues(label),
            _ => return Err(Error::execution("invalid label name \"\"")),
        },
        _ => return Err(unsupported("aggregation operator")),
    })
}
