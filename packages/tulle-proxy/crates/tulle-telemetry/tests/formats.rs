//! Access-log formats: Envoy's operators, hostile values, and JSON that always parses.

use std::net::SocketAddr;
use std::time::Duration;

use proptest::prelude::*;
use tulle_core::metadata::{Metadata, Value as Found};
use tulle_core::{ResponseFlags, UnixNanos};
use tulle_telemetry::json::Absent;
use tulle_telemetry::*;

#[derive(Clone, Debug, Default)]
struct View {
    headers: Vec<(HeadPart, &'static str, Vec<u8>)>,
    flags: ResponseFlags,
    details: Vec<u8>,
    metadata: Metadata,
}

impl LogView for View {
    fn header(&self, part: HeadPart, name: &str) -> Option<&[u8]> {
        self.headers.iter().find(|(own, key, _)| *own == part && *key == name).map(|(_, _, value)| &value[..])
    }

    fn field(&self, field: Field) -> Value<'_> {
        let socket = |text: &str| Value::Socket(text.parse::<SocketAddr>().unwrap());
        match field {
            Field::Protocol => Value::from("HTTP/2"),
            Field::ResponseCode => Value::Number(503),
            Field::ResponseFlags => Value::Flags(self.flags),
            Field::BytesSent => Value::Number(u64::MAX),
            Field::BytesReceived => Value::Number(0),
            Field::UpstreamHost => socket("10.1.2.3:8080"),
            Field::DownstreamRemoteAddress => socket("[2001:db8::1]:443"),
            Field::ResponseCodeDetails => Value::Bytes(&self.details),
            Field::GrpcStatusNumber => Value::Number(14),
            Field::DownstreamPeerCertStart => Value::Time(self.start_time()),
            Field::TraceId => Value::Hex(255, 4),
            _ => Value::None,
        }
    }

    fn metadata(&self, owner: Owner) -> Option<&Metadata> {
        (owner == Owner::Request).then_some(&self.metadata)
    }

    fn start_time(&self) -> UnixNanos {
        UnixNanos(1_709_210_096_007_000_000)
    }

    fn elapsed(&self, point: TimePoint) -> Option<Duration> {
        match point {
            TimePoint::DownstreamStart => Some(Duration::ZERO),
            TimePoint::UpstreamRxStart => Some(Duration::from_micros(4_700)),
            TimePoint::Complete | TimePoint::DownstreamTxEnd => Some(Duration::from_micros(12_345)),
            _ => None,
        }
    }
}

fn request(name: &'static str, value: &[u8]) -> View {
    View { headers: vec![(HeadPart::Request, name, value.to_vec())], ..View::default() }
}

fn text(format: &str, view: &View) -> String {
    let mut out = Vec::new();
    TextFormat::parse(format).unwrap_or_else(|error| panic!("{format}: {error}")).render(view, &mut out);
    String::from_utf8(out).unwrap()
}

fn metadata() -> Metadata {
    let list = Found::List(vec![Found::Number(1.0), Found::String("a".into())]);
    let fields = [("text".into(), Found::String("it".into())), ("list".into(), list)];
    Metadata { filters: [("m".into(), fields.into())].into() }
}

#[test]
fn operators_print_as_envoys() {
    let view = View {
        flags: ResponseFlags::UPSTREAM_CONNECTION_FAILURE | ResponseFlags::UPSTREAM_RETRY_LIMIT_EXCEEDED,
        details: b"via_upstream".to_vec(),
        headers: vec![
            (HeadPart::Request, ":path", b"/a?b".to_vec()),
            (HeadPart::Response, "x-envoy-upstream-service-time", b"7".to_vec()),
            (HeadPart::Trailers, "grpc-message", b"no".to_vec()),
        ],
        metadata: metadata(),
    };
    let table = [
        ("", ""),
        ("plain", "plain"),
        ("100%% %PROTOCOL%", "100% HTTP/2"),
        ("%RESPONSE_CODE% %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS%", "503 URX,UF via_upstream"),
        ("%RESPONSE_FLAGS_LONG%", "UpstreamRetryLimitExceeded,UpstreamConnectionFailure"),
        ("%BYTES_RECEIVED% %BYTES_SENT%", "0 18446744073709551615"),
        ("%DURATION% %RESPONSE_DURATION% %RESPONSE_TX_DURATION% %REQUEST_DURATION%", "12 4 7 -"),
        ("%COMMON_DURATION(US_RX_BEG:DS_TX_END:us)%", "7645"),
        ("%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %REQ(:PATH):2% %REQ_WITHOUT_QUERY(:PATH)%", "/a?b /a /a"),
        ("%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% %REQ(ABSENT)%", "7 -"),
        ("%DOWNSTREAM_PEER_CERT_V_START% %DOWNSTREAM_PEER_CERT_V_END(%Y-%m)%", "2024-02-29T12:34:56.007Z -"),
        ("%TRACE_ID% %METADATA(DYNAMIC:m:text)% %DYNAMIC_METADATA(m:list)%", "00ff it [1,\"a\"]"),
        ("%DYNAMIC_METADATA(m:text):1% %DYNAMIC_METADATA(m:none)% %ENVIRONMENT(TULLE_UNSET)%", "i - -"),
        ("%UPSTREAM_HOST% %UPSTREAM_HOST_WITHOUT_PORT% %UPSTREAM_HOST_PORT%", "10.1.2.3:8080 10.1.2.3 8080"),
        ("%DOWNSTREAM_REMOTE_ADDRESS%", "[2001:db8::1]:443"),
        ("%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%|%DOWNSTREAM_REMOTE_PORT%", "2001:db8::1|443"),
        ("%START_TIME% %START_TIME(%s)%", "2024-02-29T12:34:56.007Z 1709210096"),
        ("%GRPC_STATUS% %GRPC_STATUS(SNAKE_STRING)% %GRPC_STATUS(NUMBER)%", "Unavailable UNAVAILABLE 14"),
        ("%ROUTE_NAME%", "-"),
        ("%DYNAMIC_METADATA(m)% %DYNAMIC_METADATA(n)%", "{\"list\":[1,\"a\"],\"text\":\"it\"} -"),
        ("%CLUSTER_METADATA(m:text)% %METADATA(CLUSTER:m)%", "- -"),
        (
            "%REQUEST_HEADER(X?:PATH)% %RESPONSE_HEADER(X)% %TRAILER(GRPC-MESSAGE)% %RESPONSE_TRAILER(X?Y)%",
            "/a?b - no -",
        ),
        ("%QUERY_PARAMS%|%FILTER_STATE(a:PLAIN)%|%BYTES_RETRANSMITTED%|%TLS_JA3_FINGERPRINT%", "b|-|0|-"),
        ("%EMIT_TIME% %EMIT_TIME(%3f)%", "2024-02-29T12:34:56.019Z 019"),
    ];
    for (format, expected) in table {
        assert_eq!(text(format, &view), expected, "{format}");
    }
}

#[test]
fn istios_line_compiles_and_has_its_fields() {
    let line = text(ISTIO_TEXT_FORMAT, &View::default());
    assert_eq!(line.matches('\n').count(), 1);
    assert!(line.starts_with("[2024-02-29T12:34:56.007Z] \"- - HTTP/2\" 503 - "), "{line}");
    assert_eq!(line.split_whitespace().count(), 23, "{line}");
}

#[test]
fn bad_formats_say_where_and_why() {
    let table = [
        ("ab %NOPE%", 3, "unknown operator"),
        ("%REQ%", 0, "needs an argument"),
        ("%REQ(A?B?C)%", 0, "at most one"),
        ("%REQ(A B)%", 0, "not a header name"),
        ("%PROTOCOL", 0, "not closed by %"),
        ("%REQ(A%", 0, "not closed by )"),
        ("%REQ(A):x%", 0, "not a number"),
        ("50%", 2, "operator's name"),
        ("%START_TIME(%Q)%", 0, "time specifier"),
        ("%PROTOCOL(X)%", 0, "takes no argument"),
        ("%METADATA(ROUTE:a:b)%", 0, "only metadata of"),
        ("%DYNAMIC_METADATA(:a)%", 0, "expected namespace:key"),
        ("%UPSTREAM_METADATA(a:b)%", 0, "is not supported"),
        ("%DOWNSTREAM_WIRE_BYTES_SENT%", 0, "is not supported"),
        ("%FILTER_STATE%", 0, "needs an argument"),
        ("%TRAILER(x y)%", 0, "not a header name"),
        ("%COMMON_DURATION(A:B:ms)%", 0, "time point"),
    ];
    for (format, at, reason) in table {
        let error = TextFormat::parse(format).unwrap_err();
        assert!(error.at == at && error.reason.contains(reason), "{format}: {error}");
    }
}

#[test]
fn a_log_names_what_is_not_written() {
    let mut unwritten = Vec::new();
    let format =
        "%CEL(size(request.headers) > 1 ? 'a' : 'b')% %PROTOCOL% %METADATA(ROUTE:a)% %UPSTREAM_METADATA(a:b):3%";
    let format = TextFormat::parse_log(format, &mut unwritten).unwrap();
    let mut out = Vec::new();
    format.render(&View::default(), &mut out);
    assert_eq!(out, b"- HTTP/2 - -");
    let named = ["%CEL(size(request.headers) > 1 ? 'a' : 'b')%", "%METADATA(ROUTE:a)%", "%UPSTREAM_METADATA(a:b):3%"];
    assert_eq!(unwritten, named);
    assert!(TextFormat::parse_log("%NOPE%", &mut unwritten).is_err());
}

#[test]
fn a_value_can_neither_end_a_line_nor_a_quoted_field() {
    let view = request("user-agent", b"a\"\n\\ \x00\x7f\xff\xc2\x85\xe2\x80\xa8\xc3\xa9");
    let expected = r"a\x22\x0a\x5c \x00\x7f\xff\xc2\x85\xe2\x80\xa8é";
    assert_eq!(text("%REQ(USER-AGENT)%", &view), expected);
}

fn json(template: &JsonTemplate, absent: Absent, view: &View) -> String {
    let mut out = Vec::new();
    JsonFormat::compile(template, absent, &mut Vec::new()).unwrap().render(view, &mut out);
    String::from_utf8(out).unwrap()
}

fn member(key: &str, format: &str) -> (String, JsonTemplate) {
    (key.into(), JsonTemplate::Text(format.into()))
}

#[test]
fn json_keeps_types_and_nests() {
    let template = JsonTemplate::Object(vec![
        member("code", "%RESPONSE_CODE%"),
        member("route", "%ROUTE_NAME%"),
        member("both", "%PROTOCOL% %ROUTE_NAME%"),
        member("port", "%UPSTREAM_HOST_PORT%"),
        member("time", "%START_TIME(%Y\"\\)%"),
        (
            "in".into(),
            JsonTemplate::List(vec![JsonTemplate::Number(1.5), JsonTemplate::Bool(true), JsonTemplate::Null]),
        ),
        ("obj\"".into(), JsonTemplate::Object(vec![member("f", "%RESPONSE_FLAGS%")])),
    ]);
    let expected = concat!(
        r#"{"code":503,"route":null,"both":"HTTP/2 -","port":8080,"time":"2024\"\\","in":[1.5,true,null],"#,
        r#""obj\"":{"f":"-"}}"#,
        "\n"
    );
    assert_eq!(json(&template, Absent::Null, &View::default()), expected);
    let omitted = json(&template, Absent::Omit, &View::default());
    assert!(!omitted.contains("route") && omitted.contains(r#""both":"HTTP/2 ""#), "{omitted}");
}

#[test]
fn what_is_absent_is_left_out_of_lists_and_lines() {
    let item = |text: &str| JsonTemplate::Text(text.to_owned());
    let template = JsonTemplate::List(vec![item("%REQ(NONE)%"), item("%RESPONSE_CODE%"), item("a%REQ(NONE)%")]);
    let code = json(&item("%RESPONSE_CODE%"), Absent::Omit, &View::default());
    assert_eq!(json(&template, Absent::Omit, &View::default()), format!("[{},\"a\"]\n", code.trim()));
    let mut line = Vec::new();
    TextFormat::parse("a%REQ(NONE)%b%RESPONSE_FLAGS%").unwrap().omitting().render(&View::default(), &mut line);
    assert!(line.starts_with(b"ab"), "{}", line.escape_ascii());
}

#[test]
fn bytes_that_are_no_text_are_told_by_their_numbers() {
    let template = JsonTemplate::Text("%REQ(A)%".to_owned());
    let line = json(&template, Absent::Null, &request("a", b"caf\xe9 \xc3\xa9"));
    assert_eq!(line, "\"caf\\u00e9 \u{e9}\"\n");
}

fn template() -> impl Strategy<Value = JsonTemplate> {
    let piece = prop_oneof![
        "\\PC{0,6}".prop_map(|text| text.replace('%', "%%")),
        Just("%REQ(A)%".to_owned()),
        Just("%REQ(A):3%".to_owned()),
        Just("%RESPONSE_CODE%".to_owned()),
        Just("%RESPONSE_CODE_DETAILS%".to_owned()),
        Just("%ROUTE_NAME%".to_owned()),
        Just("%START_TIME(\"\\%Y)%".to_owned()),
    ];
    let leaf = prop_oneof![
        Just(JsonTemplate::Null),
        any::<bool>().prop_map(JsonTemplate::Bool),
        any::<f64>().prop_map(JsonTemplate::Number),
        prop::collection::vec(piece, 0..4).prop_map(|pieces| JsonTemplate::Text(pieces.concat())),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(JsonTemplate::List),
            prop::collection::vec(("\\PC{0,6}", inner), 0..4).prop_map(JsonTemplate::Object),
        ]
    })
}

proptest! {
    #[test]
    fn a_json_line_always_parses(
        template in template(),
        header: Vec<u8>,
        details: Vec<u8>,
        absent in prop_oneof![Just(Absent::Null), Just(Absent::Omit)],
    ) {
        let line = json(&template, absent, &View { details, ..request("a", &header) });
        prop_assert_eq!(line.matches('\n').count(), 1);
        prop_assert!(serde_json::from_str::<serde_json::Value>(&line).is_ok(), "{}", line);
    }

    #[test]
    fn a_text_line_stays_one_line(header: Vec<u8>, max in prop::option::of(0usize..20)) {
        let format = match max {
            Some(max) => format!("\"%REQ(A):{max}%\" %RESPONSE_CODE%"),
            None => "\"%REQ(A)%\" %RESPONSE_CODE%".to_owned(),
        };
        let line = text(&format, &request("a", &header));
        prop_assert!(!line.contains(|c: char| c.is_control()));
        prop_assert_eq!(line.matches('"').count(), 2);
        prop_assert!(line.ends_with("\" 503"));
    }

    #[test]
    fn any_text_compiles_or_is_refused(format in "[%A-Z_():?0-9a-z ]{0,30}") {
        let _ = TextFormat::parse(&format);
    }

    #[test]
    fn literals_round_trip(literal in "\\PC{0,40}") {
        prop_assert_eq!(text(&literal.replace('%', "%%"), &View::default()), literal);
    }
}
