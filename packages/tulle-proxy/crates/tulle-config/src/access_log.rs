//! Access logs: where a line goes, how it is formatted, and which requests are logged.

use std::path::Path;
use std::sync::Arc;

use tulle_core::Str;
use tulle_policy::HeaderMatcher;
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
    And(Vec<LogFilter>),
    Or(Vec<LogFilter>),
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
