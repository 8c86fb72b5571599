//! Expressions.

use std::ops::Range;

use model::Matcher;

use super::functions::Function;

/// Bytes of the query that a node came from.
pub type Span = Range<usize>;

/// What an expression gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ValueType {
    /// One number at each step.
    Scalar,
    /// One text.
    String,
    /// At each step a sample of each of some series.
    InstantVector,
    /// At each step a window of samples of each of some series.
    RangeVector,
}

impl ValueType {
    /// The name in error messages.
    pub fn documented(self) -> &'static str {
        match self {
            Self::Scalar => "scalar",
            Self::String => "string",
            Self::InstantVector => "instant vector",
            Self::RangeVector => "range vector",
        }
    }
}

/// An expression with its place in the query.
#[derive(Debug, Clone)]
pub struct Expr {
    /// What it is.
    pub kind: ExprKind,
    /// Where it is.
    pub span: Span,
}

/// The kinds of expressions.
#[derive(Debug, Clone)]
pub enum ExprKind {
    /// A number, or a duration in seconds.
    Number(f64),
    /// A text.
    String(String),
    /// `metric{label="value"}`, an instant vector.
    Selector(Selector),
    /// `metric[5m]`, a range vector.
    Matrix(Selector, Duration),
    /// `expr[1h:1m]`, a range vector.
    Subquery(Box<Subquery>),
    /// `-expr`.
    Negate(Box<Expr>),
    /// `+expr`, which is `expr`.
    Plus(Box<Expr>),
    /// `lhs + rhs`.
    Binary(Box<Binary>),
    /// `sum by (job) (expr)`.
    Aggregate(Box<Aggregate>),
    /// `rate(expr)`.
    Call(Call),
    /// `(expr)`.
    Paren(Box<Expr>),
}

/// A duration: milliseconds, or an expression that depends on the step.
#[derive(Debug, Clone, PartialEq)]
pub enum Duration {
    /// Milliseconds.
    Ms(i64),
    /// `step()`.
    Step,
    /// `-duration`.
    Negate(Box<Duration>),
    /// Arithmetic in seconds.
    Binary(BinaryOp, Box<Duration>, Box<Duration>),
    /// `min(a, b)` and `max(a, b)`.
    Extreme {
        /// Whether it is `max`.
        is_max: bool,
        /// The two.
        of: Box<(Duration, Duration)>,
    },
}

/// When an expression is evaluated instead of at each step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum At {
    /// At this time, ms since the epoch.
    Ms(i64),
    /// At the query's start.
    Start,
    /// At the query's end.
    End,
}

/// Which series, and when.
#[derive(Debug, Clone)]
pub struct Selector {
    /// What the series must pass; the metric's name among them.
    pub matchers: Vec<Matcher>,
    /// The name, where it was written in front of the braces.
    pub name: Option<String>,
    /// How far back; negative forth.
    pub offset: Option<Duration>,
    /// The fixed time.
    pub at: Option<At>,
    /// Position among the selectors of the query, in reading order.
    pub number: usize,
    /// Where it is.
    pub span: Span,
}

/// An expression evaluated at steps of its own.
#[derive(Debug, Clone)]
pub struct Subquery {
    /// An instant vector.
    pub expr: Expr,
    /// The window.
    pub range: Duration,
    /// Between its steps; `None` for the default.
    pub step: Option<Duration>,
    /// How far back.
    pub offset: Option<Duration>,
    /// The fixed time.
    pub at: Option<At>,
}

/// Operators between two expressions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names are the documentation")]
pub enum BinaryOp {
    Add,
    Sub,
    Mul,
    Div,
    Mod,
    Pow,
    Atan2,
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    And,
    Or,
    Unless,
}

impl BinaryOp {
    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Add => "+",
            Self::Sub => "-",
            Self::Mul => "*",
            Self::Div => "/",
            Self::Mod => "%",
            Self::Pow => "^",
            Self::Atan2 => "atan2",
            Self::Equal => "==",
            Self::NotEqual => "!=",
            Self::Less => "<",
            Self::LessOrEqual => "<=",
            Self::Greater => ">",
            Self::GreaterOrEqual => ">=",
            Self::And => "and",
            Self::Or => "or",
            Self::Unless => "unless",
        }
    }

    /// `==` and its like.
    pub fn is_comparison(self) -> bool {
        matches!(
            self,
            Self::Equal
                | Self::NotEqual
                | Self::Less
                | Self::LessOrEqual
                | Self::Greater
                | Self::GreaterOrEqual
        )
    }

    /// `and`, `or`, `unless`.
    pub fn is_set(self) -> bool {
        matches!(self, Self::And | Self::Or | Self::Unless)
    }

    /// How tightly it binds; more is tighter.
    pub fn precedence(self) -> u8 {
        match self {
            Self::Or => 1,
            Self::And | Self::Unless => 2,
            Self::Add | Self::Sub => 4,
            Self::Mul | Self::Div | Self::Mod | Self::Atan2 => 5,
            Self::Pow => 7,
            _ => 3,
        }
    }
}

/// Which series of the two sides belong together.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Matching {
    /// `on (…)`; else `ignoring (…)`, by default of none.
    pub is_on: bool,
    /// The labels.
    pub labels: Vec<String>,
    /// How many of each side belong to one of the other.
    pub group: Grouping,
    /// Labels that the "one" side gives: of `group_left (…)`.
    pub include: Vec<String>,
    /// What stands for a series that the left side lacks: of `fill_left (…)` and `fill (…)`.
    pub fill_left: Option<f64>,
    /// The same for the right side.
    pub fill_right: Option<f64>,
}

/// How many series of a side may belong to one of the other.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Grouping {
    /// One of each.
    #[default]
    OneToOne,
    /// `group_left`.
    ManyToOne,
    /// `group_right`.
    OneToMany,
}

/// An operator with its sides.
#[derive(Debug, Clone)]
pub struct Binary {
    /// The operator.
    pub op: BinaryOp,
    /// Left.
    pub lhs: Expr,
    /// Right.
    pub rhs: Expr,
    /// `bool`: comparisons give 0 or 1.
    pub returns_bool: bool,
    /// Between two vectors.
    pub matching: Matching,
}

/// Aggregations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names are the documentation")]
pub enum AggregateOp {
    Sum,
    Avg,
    Count,
    Min,
    Max,
    Group,
    Stddev,
    Stdvar,
    Topk,
    Bottomk,
    CountValues,
    Quantile,
    Limitk,
    LimitRatio,
}

impl AggregateOp {
    /// All, by name.
    pub const ALL: [(&'static str, Self); 14] = [
        ("sum", Self::Sum),
        ("avg", Self::Avg),
        ("count", Self::Count),
        ("min", Self::Min),
        ("max", Self::Max),
        ("group", Self::Group),
        ("stddev", Self::Stddev),
        ("stdvar", Self::Stdvar),
        ("topk", Self::Topk),
        ("bottomk", Self::Bottomk),
        ("count_values", Self::CountValues),
        ("quantile", Self::Quantile),
        ("limitk", Self::Limitk),
        ("limit_ratio", Self::LimitRatio),
    ];

    /// As it is written.
    pub fn as_str(self) -> &'static str {
        Self::ALL.iter().find(|(_, op)| *op == self).map_or("", |(name, _)| name)
    }

    /// What its parameter is, if it has one.
    pub fn parameter(self) -> Option<ValueType> {
        match self {
            Self::Topk | Self::Bottomk | Self::Quantile | Self::Limitk | Self::LimitRatio => {
                Some(ValueType::Scalar)
            }
            Self::CountValues => Some(ValueType::String),
            _ => None,
        }
    }
}

/// An aggregation.
#[derive(Debug, Clone)]
pub struct Aggregate {
    /// Which.
    pub op: AggregateOp,
    /// Of what.
    pub expr: Expr,
    /// `topk`'s number and the like.
    pub parameter: Option<Expr>,
    /// `without (…)`; else `by (…)`, by default of none.
    pub is_without: bool,
    /// The labels.
    pub labels: Vec<String>,
}

/// A call of a function.
#[derive(Debug, Clone)]
pub struct Call {
    /// The function.
    pub function: &'static Function,
    /// Its arguments.
    pub arguments: Vec<Expr>,
}

impl Expr {
    /// What the expression gives.
    pub fn value_type(&self) -> ValueType {
        match &self.kind {
            ExprKind::Number(_) => ValueType::Scalar,
            ExprKind::String(_) => ValueType::String,
            ExprKind::Selector(_) | ExprKind::Aggregate(_) => ValueType::InstantVector,
            ExprKind::Matrix(..) | ExprKind::Subquery(_) => ValueType::RangeVector,
            ExprKind::Negate(expr) | ExprKind::Plus(expr) | ExprKind::Paren(expr) => expr.value_type(),
            ExprKind::Binary(binary) => match (binary.lhs.value_type(), binary.rhs.value_type()) {
                (ValueType::Scalar, ValueType::Scalar) => ValueType::Scalar,
                _ => ValueType::InstantVector,
            },
            ExprKind::Call(call) => call.function.returns,
        }
    }

    /// The expression without the parentheses around it.
    pub fn unwrapped(&self) -> &Self {
        match &self.kind {
            ExprKind::Paren(expr) => expr.unwrapped(),
            _ => self,
        }
    }

    /// Hands every selector to `visit`, in reading order.
    pub fn each_selector<'a>(&'a self, visit: &mut dyn FnMut(&'a Selector)) {
        match &self.kind {
            ExprKind::Number(_) | ExprKind::String(_) => {}
            ExprKind::Selector(selector) | ExprKind::Matrix(selector, _) => visit(selector),
            ExprKind::Subquery(subquery) => subquery.expr.each_selector(visit),
            ExprKind::Negate(expr) | ExprKind::Plus(expr) | ExprKind::Paren(expr) => {
                expr.each_selector(visit);
            }
            ExprKind::Binary(binary) => {
                binary.lhs.each_selector(visit);
                binary.rhs.each_selector(visit);
            }
            ExprKind::Aggregate(aggregate) => {
                if let Some(parameter) = &aggregate.parameter {
                    parameter.each_selector(visit);
                }
                aggregate.expr.each_selector(visit);
            }
            ExprKind::Call(call) => call.arguments.iter().for_each(|argument| argument.each_selector(visit)),
        }
    }
}
