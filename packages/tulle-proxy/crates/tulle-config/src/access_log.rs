//! Access logs: where a line goes, how it is formatted, and which requests are logged.

use std::path::Path;
use std::sync::Arc;

use tulle_core::Str;
use tulle_policy::HeaderMatcher;
use tulle_policy::rbac::MetadataMatcher;
use tulle_telemetry::{JsonFormat, TextFormat};

#[derive(Clone, Debug)]
pub struct AccessLog {
    pub sink: AccessLogSink,
    pub format: Arc<LogFormat>,
    /// `None` logs everything.
    pub filter: Option<LogFilter>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum AccessLogSink {
    Stdout,
    Stderr,
    File(Arc<Path>),
}

/// How a line is made.
#[derive(Clone, Debug, PartialEq)]
pub enum LogFormat {
    /// Ends with whatever the format ends with; no newline is added.
    Text(TextFormat),
    /// One JSON object a line.
    Json(JsonFormat),
}

/// Which requests are logged.
#[derive(Clone, Debug, PartialEq)]
pub enum LogFilter {
    Status(Comparison),
    /// Milliseconds.
    Duration(Comparison),
    NotHealthCheck,
    /// Response flags such as `UF`; an empty list means any flag.
    ResponseFlag(Vec<Str>),
    /// gRPC status codes.
    GrpcStatus {
        statuses: Vec<u16>,
        exclude: bool,
    },
    /// Of the request.
    Header(HeaderMatcher),
    /// A share of all requests; `by_id`: the request's id decides.
    Share {
        share: Share,
        by_id: bool,
    },
    /// Those whose spans are kept.
    Traced,
    /// By what filters found out; `absent` decides where they found nothing.
    Metadata {
        matcher: MetadataMatcher,
        absent: bool,
    },
    /// By what a line is about.
    Kind {
        kinds: Vec<LineKind>,
        exclude: bool,
    },
    And(Vec<LogFilter>),
    Or(Vec<LogFilter>),
}

/// So many of so many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    pub numerator: u32,
    pub denominator: u32,
}

impl Share {
    /// Whether the share has what drew this number.
    pub fn hits(self, drawn: u64) -> bool {
        drawn % u64::from(self.denominator.max(1)) < u64::from(self.numerator)
    }
}

/// What a line is about (`envoy.data.accesslog.v3.AccessLogType`), as far as lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LineKind {
    /// A request that has ended.
    DownstreamEnd,
    /// A connection that has ended.
    TcpConnectionEnd,
    /// What no line is ever about.
    Other,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Comparison {
    pub op: ComparisonOp,
    pub value: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ComparisonOp {
    Eq,
    Ge,
    Le,
    Ne,
}

impl Comparison {
    pub fn holds(&self, actual: u32) -> bool {
        match self.op {
            ComparisonOp::Eq => actual == self.value,
            ComparisonOp::Ge => actual >= self.value,
            ComparisonOp::Le => actual <= self.value,
            ComparisonOp::Ne => actual != self.value,
        }
    }
}
