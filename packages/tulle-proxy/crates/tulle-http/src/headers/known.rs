//! Classes of header names, and sets of them.

/// Names the data path looks at itself; classified once, when a header is added, so that no later step compares text.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Known {
    Other,
    Host,
    ContentLength,
    TransferEncoding,
    Connection,
    KeepAlive,
    ProxyConnection,
    Upgrade,
    Te,
    Trailer,
    Expect,
    Http2Settings,
    ContentType,
    UserAgent,
    Cookie,
    Server,
    Date,
    GrpcStatus,
    GrpcTimeout,
    GrpcMessage,
    XForwardedFor,
    XForwardedProto,
    XRequestId,
    Internal,
}

impl Known {
    const ALL: [Known; 24] = [
        Known::Other,
        Known::Host,
        Known::ContentLength,
        Known::TransferEncoding,
        Known::Connection,
        Known::KeepAlive,
        Known::ProxyConnection,
        Known::Upgrade,
        Known::Te,
        Known::Trailer,
        Known::Expect,
        Known::Http2Settings,
        Known::ContentType,
        Known::UserAgent,
        Known::Cookie,
        Known::Server,
        Known::Date,
        Known::GrpcStatus,
        Known::GrpcTimeout,
        Known::GrpcMessage,
        Known::XForwardedFor,
        Known::XForwardedProto,
        Known::XRequestId,
        Known::Internal,
    ];

    /// The class whose number (`as u8`) this is.
    pub fn from_number(number: u8) -> Known {
        Known::ALL.get(usize::from(number)).copied().unwrap_or(Known::Other)
    }

    /// The class of a lower-case name. By length first: after that few names are left to compare.
    pub fn of(name: &[u8]) -> Known {
        let is = |known: Known, text: &[u8]| if name == text { known } else { Known::Other };
        match (name.len(), name.first()) {
            (2, _) => is(Known::Te, b"te"),
            (4, Some(b'h')) => is(Known::Host, b"host"),
            (4, _) => is(Known::Date, b"date"),
            (6, Some(b's')) => is(Known::Server, b"server"),
            (6, Some(b'c')) => is(Known::Cookie, b"cookie"),
            (6, _) => is(Known::Expect, b"expect"),
            (7, Some(b'u')) => is(Known::Upgrade, b"upgrade"),
            (7, _) => is(Known::Trailer, b"trailer"),
            (10, Some(b'u')) => is(Known::UserAgent, b"user-agent"),
            (10, Some(b'c')) => is(Known::Connection, b"connection"),
            (10, _) => is(Known::KeepAlive, b"keep-alive"),
            (11, _) => is(Known::GrpcStatus, b"grpc-status"),
            (12, Some(b'c')) => is(Known::ContentType, b"content-type"),
            (12, Some(b'x')) if name == b"x-request-id" => Known::XRequestId,
            (12, Some(b'g')) if name == b"grpc-timeout" => Known::GrpcTimeout,
            (12, Some(b'g')) => is(Known::GrpcMessage, b"grpc-message"),
            (14, Some(b'c')) => is(Known::ContentLength, b"content-length"),
            (14, Some(b'h')) => is(Known::Http2Settings, b"http2-settings"),
            (15, _) if name == b"x-forwarded-for" => Known::XForwardedFor,
            (16, Some(b'p')) => is(Known::ProxyConnection, b"proxy-connection"),
            (17, Some(b't')) => is(Known::TransferEncoding, b"transfer-encoding"),
            (17, _) if name == b"x-forwarded-proto" => Known::XForwardedProto,
            (8.., Some(b'x')) if name.starts_with(b"x-envoy-") => Known::Internal,
            _ => Known::Other,
        }
    }
}

/// A set of classes of names.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Classes(u32);

impl Classes {
    /// The set of these.
    pub const fn of(all: &[Known]) -> Classes {
        let (mut bits, mut at) = (0, 0);
        while at < all.len() {
            bits |= 1 << all[at] as u32;
            at += 1;
        }
        Classes(bits)
    }

    pub fn contains(self, known: Known) -> bool {
        self.0 & 1 << known as u32 != 0
    }

    pub(super) fn add(&mut self, known: Known) {
        self.0 |= 1 << known as u32;
    }

    /// Whether a class is in both sets.
    pub(super) fn meets(self, other: Classes) -> bool {
        self.0 & other.0 != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_class_has_its_number() {
        for (number, known) in Known::ALL.iter().enumerate() {
            assert_eq!(*known as usize, number);
            assert_eq!(Known::from_number(number as u8), *known);
        }
        assert_eq!(Known::ALL.len() - 1, Known::Internal as usize);
    }

    #[test]
    fn names_have_their_classes() {
        let table = [
            ("te", Known::Te),
            ("host", Known::Host),
            ("date", Known::Date),
            ("etag", Known::Other),
            ("server", Known::Server),
            ("cookie", Known::Cookie),
            ("expect", Known::Expect),
            ("upgrade", Known::Upgrade),
            ("trailer", Known::Trailer),
            ("user-agent", Known::UserAgent),
            ("connection", Known::Connection),
            ("keep-alive", Known::KeepAlive),
            ("set-cookie", Known::Other),
            ("grpc-status", Known::GrpcStatus),
            ("content-type", Known::ContentType),
            ("x-request-id", Known::XRequestId),
            ("grpc-timeout", Known::GrpcTimeout),
            ("grpc-message", Known::GrpcMessage),
            ("content-length", Known::ContentLength),
            ("http2-settings", Known::Http2Settings),
            ("x-forwarded-for", Known::XForwardedFor),
            ("x-envoy-ip-tags", Known::Internal),
            ("x-envoy-tags", Known::Internal),
            ("proxy-connection", Known::ProxyConnection),
            ("transfer-encoding", Known::TransferEncoding),
            ("x-forwarded-proto", Known::XForwardedProto),
            ("x-envoy-internal1", Known::Internal),
            ("x-envoy-", Known::Internal),
            ("x-envoy", Known::Other),
            ("", Known::Other),
        ];
        for (name, known) in table {
            assert_eq!(Known::of(name.as_bytes()), known, "{name}");
            let other = format!("{}~", &name[..name.len().saturating_sub(1)]);
            assert!(matches!(Known::of(other.as_bytes()), Known::Other | Known::Internal), "{other}");
        }
    }
}
