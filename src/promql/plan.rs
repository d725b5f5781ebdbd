//! The form in which a query is evaluated: typed, with positions, selectors numbered.
//!
//! A plan depends on the query's text alone, never on the time or the data, so it is cached by text.

use crate::model::Matcher;

use super::function::Function;
use super::value::{Grid, QuerySpan};

/// A query ready to run.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) root: Node,
    /// What is read from the store; selectors that ask the same share an entry.
    pub(super) selections: Vec<Selection>,
}

/// The series that a selector stands for: those that pass all matchers of any branch.
#[derive(Clone, Debug)]
pub(super) struct Selection {
    pub(super) branches: Vec<Vec<Matcher>>,
}

impl Selection {
    /// What the selection asks, as text; equal for equal selections only.
    pub(super) fn key(&self) -> String {
        let mut key = String::new();
        for branch in &self.branches {
            key.push('{');
            for Matcher {
                name, op, value, ..
            } in branch
            {
                key.push_str(&format!("{name:?}{op:?}{value:?},"));
            }
            key.push('}');
        }
        key
    }
}

/// An expression and the byte of the text where it begins. Parentheses are gone.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) kind: Kind,
    pub(super) at: usize,
    /// A number for its text, where calls and aggregations of the same text stand in the query.
    pub(super) repeated: Option<usize>,
}

#[derive(Debug)]
pub(super) enum Kind {
    Number(f64),
    Text(String),
    Select(Select),
    /// A range vector: the argument of a window function, or a whole instant query.
    Range(Range),
    Negate(Box<Node>),
    Binary(Box<Binary>),
    Aggregate(Box<Aggregate>),
    Call(Box<Call>),
}

/// An instant vector selector.
#[derive(Debug)]
pub(super) struct Select {
    /// Index into the plan's selections.
    pub(super) selection: usize,
    pub(super) shift: Shift,
}

/// A range selector or a subquery.
#[derive(Debug)]
pub(super) struct Range {
    pub(super) source: Source,
    pub(super) window_ms: i64,
    pub(super) shift: Shift,
}

#[derive(Debug)]
pub(super) enum Source {
    /// Index into the plan's selections.
    Samples(usize),
    Subquery {
        expr: Box<Node>,
        step_ms: i64,
    },
}

/// Where a selector looks, relative to the step at which it is evaluated.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Shift {
    /// Towards the past.
    pub(super) offset_ms: i64,
    pub(super) at: Option<At>,
}

/// The `@` modifier.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum At {
    Time(i64),
    QueryStart,
    QueryEnd,
}

#[derive(Debug)]
pub(super) struct Binary {
    pub(super) op: Operator,
    pub(super) left: Node,
    pub(super) right: Node,
    pub(super) return_bool: bool,
    pub(super) matching: Matching,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operator {
    Arithmetic(Arithmetic),
    Comparison(Comparison),
    Set(SetOperator),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arithmetic {
    Add,
    Sub,
    Mul,
    Div,
    Mod,
    Pow,
    Atan2,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SetOperator {
    And,
    Or,
    Unless,
}

/// How the series of two vectors find each other.
#[derive(Clone, Debug)]
pub(super) struct Matching {
    pub(super) labels: LabelSet,
    pub(super) cardinality: Cardinality,
    /// What stands in for a missing partner on each side.
    pub(super) fill_left: Option<f64>,
    pub(super) fill_right: Option<f64>,
}

/// Which labels count.
#[derive(Clone, Debug)]
pub(super) enum LabelSet {
    /// These alone, `by` and `on`.
    Only(Vec<String>),
    /// All but these and the metric's name, `without` and `ignoring`.
    Except(Vec<String>),
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Cardinality {
    OneToOne,
    /// `group_left`: the left side has many, and takes these labels from the right.
    ManyToOne(Vec<String>),
    /// `group_right`.
    OneToMany(Vec<String>),
}

#[derive(Debug)]
pub(super) struct Aggregate {
    pub(super) op: Aggregation,
    pub(super) expr: Node,
    pub(super) grouping: LabelSet,
}

#[derive(Debug)]
pub(super) enum Aggregation {
    Sum,
    Avg,
    Min,
    Max,
    Count,
    Group,
    Stddev,
    Stdvar,
    Quantile(Node),
    TopK(Node),
    BottomK(Node),
    LimitK(Node),
    LimitRatio(Node),
    CountValues(String),
}

#[derive(Debug)]
pub(super) struct Call {
    pub(super) function: Function,
    pub(super) args: Vec<Node>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ValueType {
    Scalar,
    Text,
    Vector,
    Range,
}

impl ValueType {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Scalar => "scalar",
            Self::Text => "string",
            Self::Vector => "instant vector",
            Self::Range => "range vector",
        }
    }
}

impl LabelSet {
    /// Whether a label takes part.
    pub(super) fn keeps(&self, name: &str) -> bool {
        match self {
            Self::Only(names) => names.iter().any(|one| one == name),
            Self::Except(names) => {
                name != crate::model::METRIC_NAME && !names.iter().any(|one| one == name)
            }
        }
    }
}

impl Node {
    pub(super) fn new(kind: Kind, at: usize) -> Self {
        Self {
            kind,
            at,
            repeated: None,
        }
    }

    /// Visits this expression and all within it.
    pub(super) fn each_mut(&mut self, visit: &mut impl FnMut(&mut Self)) {
        visit(self);
        match &mut self.kind {
            Kind::Number(_) | Kind::Text(_) | Kind::Select(_) => {}
            Kind::Range(range) => {
                if let Source::Subquery { expr, .. } = &mut range.source {
                    expr.each_mut(visit);
                }
            }
            Kind::Negate(expr) => expr.each_mut(visit),
            Kind::Binary(binary) => {
                binary.left.each_mut(visit);
                binary.right.each_mut(visit);
            }
            Kind::Aggregate(aggregate) => {
                if let Some(param) = aggregate.op.param_mut() {
                    param.each_mut(visit);
                }
                aggregate.expr.each_mut(visit);
            }
            Kind::Call(call) => {
                for arg in &mut call.args {
                    arg.each_mut(visit);
                }
            }
        }
    }

    pub(super) fn value_type(&self) -> ValueType {
        match &self.kind {
            Kind::Number(_) => ValueType::Scalar,
            Kind::Text(_) => ValueType::Text,
            Kind::Select(_) | Kind::Aggregate(_) => ValueType::Vector,
            Kind::Range(_) => ValueType::Range,
            Kind::Negate(expr) => expr.value_type(),
            Kind::Binary(binary) => {
                if binary.left.value_type() == ValueType::Scalar {
                    binary.right.value_type()
                } else {
                    ValueType::Vector
                }
            }
            Kind::Call(call) => call.function.value_type(),
        }
    }

    /// Whether an instant query's result has an order of its own: that of a sort or of `topk`,
    /// carried through operators that work value by value.
    pub(super) fn keeps_order(&self) -> bool {
        match &self.kind {
            Kind::Aggregate(aggregate) => {
                matches!(aggregate.op, Aggregation::TopK(_) | Aggregation::BottomK(_))
            }
            Kind::Call(call) => {
                call.function.sorts()
                    || (call.function.is_elementwise()
                        && call.args.first().is_some_and(Self::keeps_order))
            }
            Kind::Negate(expr) => expr.keeps_order(),
            Kind::Binary(binary) => {
                (binary.right.value_type() == ValueType::Scalar && binary.left.keeps_order())
                    || (binary.left.value_type() == ValueType::Scalar && binary.right.keeps_order())
            }
            Kind::Number(_) | Kind::Text(_) | Kind::Select(_) | Kind::Range(_) => false,
        }
    }

    /// The expressions evaluated at the same steps as this one.
    pub(super) fn operands(&self) -> Vec<&Node> {
        match &self.kind {
            Kind::Number(_) | Kind::Text(_) | Kind::Select(_) | Kind::Range(_) => Vec::new(),
            Kind::Negate(expr) => vec![expr],
            Kind::Binary(binary) => vec![&binary.left, &binary.right],
            Kind::Aggregate(aggregate) => match aggregate.op.param() {
                Some(param) => vec![param, &aggregate.expr],
                None => vec![&aggregate.expr],
            },
            Kind::Call(call) => call.args.iter().collect(),
        }
    }
}

impl Aggregation {
    /// The scalar that comes before the vector.
    fn param(&self) -> Option<&Node> {
        match self {
            Self::Quantile(param)
            | Self::TopK(param)
            | Self::BottomK(param)
            | Self::LimitK(param)
            | Self::LimitRatio(param) => Some(param),
            _ => None,
        }
    }

    fn param_mut(&mut self) -> Option<&mut Node> {
        match self {
            Self::Quantile(param)
            | Self::TopK(param)
            | Self::BottomK(param)
            | Self::LimitK(param)
            | Self::LimitRatio(param) => Some(param),
            _ => None,
        }
    }
}

impl Shift {
    pub(super) const NONE: Self = Self {
        offset_ms: 0,
        at: None,
    };

    /// The steps at which the data is looked up: a single one under `@`.
    pub(super) fn apply(self, steps: Grid, query: QuerySpan) -> Grid {
        let fixed_ms = match self.at {
            None => return steps.moved(self.offset_ms.saturating_neg()),
            Some(At::Time(at_ms)) => at_ms,
            Some(At::QueryStart) => query.start_ms,
            Some(At::QueryEnd) => query.end_ms,
        };
        Grid::single(fixed_ms.saturating_sub(self.offset_ms))
    }
}
