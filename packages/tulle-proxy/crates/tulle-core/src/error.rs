//! One closed error type for the data path: what happened, on whose side, and whether another attempt may help.

use std::fmt;

/// Whose fault or whose connection it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    Downstream,
    Upstream,
    /// The proxy itself: configuration, limits, bugs.
    Internal,
}

/// Whether the same request may be sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Retry {
    /// Nothing reached the peer.
    Safe,
    /// The peer may have acted on it; only idempotent requests, or an explicit policy.
    IfIdempotent,
    Never,
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum ErrorKind {
    #[error("connect refused")]
    ConnectRefused,
    #[error("connect timed out")]
    ConnectTimeout,
    #[error("connect failed")]
    ConnectFailed,
    #[error("TLS handshake failed")]
    TlsHandshake,
    #[error("peer certificate refused")]
    PeerCertificate,
    #[error("peer identity does not match")]
    PeerIdentity,
    #[error("connection closed")]
    Closed,
    #[error("connection closed before a response")]
    ClosedBeforeResponse,
    #[error("read failed")]
    Read,
    #[error("write failed")]
    Write,
    #[error("stream reset")]
    Reset,
    #[error("stream refused")]
    Refused,
    #[error("going away")]
    GoAway,
    #[error("malformed message")]
    Protocol,
    #[error("head too large")]
    HeadTooLarge,
    #[error("body too large")]
    BodyTooLarge,
    #[error("request timed out")]
    RequestTimeout,
    #[error("per-try timeout")]
    TryTimeout,
    #[error("idle timeout")]
    IdleTimeout,
    #[error("no healthy upstream")]
    NoHealthyUpstream,
    #[error("no such cluster")]
    NoCluster,
    #[error("no route")]
    NoRoute,
    #[error("circuit breaker is open")]
    Overflow,
    #[error("draining")]
    Draining,
    #[error("internal error")]
    Internal,
}

/// An error with its kind, side, retryability and cause.
#[derive(Debug)]
pub struct Error {
    pub kind: ErrorKind,
    pub side: Side,
    pub retry: Retry,
    /// What was being done, for the log; static so that the failure path does not allocate.
    pub context: &'static str,
    pub cause: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    pub fn new(kind: ErrorKind, side: Side, context: &'static str) -> Self {
        Error { kind, side, retry: kind.retry(), context, cause: None }
    }

    pub fn upstream(kind: ErrorKind, context: &'static str) -> Self {
        Self::new(kind, Side::Upstream, context)
    }

    pub fn downstream(kind: ErrorKind, context: &'static str) -> Self {
        Self::new(kind, Side::Downstream, context)
    }

    pub fn internal(kind: ErrorKind, context: &'static str) -> Self {
        Self::new(kind, Side::Internal, context)
    }

    pub fn because(mut self, cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.cause = Some(cause.into());
        self
    }
}

impl ErrorKind {
    /// Retryability when nothing else is known.
    pub fn retry(self) -> Retry {
        use ErrorKind::*;
        match self {
            ConnectRefused | ConnectTimeout | ConnectFailed | TlsHandshake | PeerCertificate | PeerIdentity
            | Refused | NoHealthyUpstream => Retry::Safe,
            Closed | ClosedBeforeResponse | Read | Write | Reset | GoAway | TryTimeout => Retry::IfIdempotent,
            Protocol | HeadTooLarge | BodyTooLarge | RequestTimeout | IdleTimeout | NoCluster | NoRoute | Overflow
            | Draining | Internal => Retry::Never,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let side = match self.side {
            Side::Downstream => "downstream",
            Side::Upstream => "upstream",
            Side::Internal => "proxy",
        };
        write!(out, "{side}: {}: {}", self.context, self.kind)?;
        match &self.cause {
            Some(cause) => write!(out, ": {cause}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.cause.as_deref().map(|cause| cause as &(dyn std::error::Error + 'static))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_says_side_context_kind_and_cause() {
        let error = Error::upstream(ErrorKind::ConnectRefused, "connect").because("os error 111");
        assert_eq!(error.to_string(), "upstream: connect: connect refused: os error 111");
        assert_eq!(error.retry, Retry::Safe);
    }
}
