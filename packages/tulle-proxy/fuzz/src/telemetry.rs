//! Trace headers that come back as they were understood, and access logs whose lines stay lines.

use std::sync::LazyLock;
use std::time::Duration;

use tulle_core::UnixNanos;
use tulle_core::metadata::{Metadata, Value as Found};
use tulle_http::Headers;
use tulle_telemetry::json::Absent;
use tulle_telemetry::{
    Field, HeadPart, JsonFormat, JsonTemplate, LogView, Owner, TextFormat, TimePoint, TraceContext, Value,
};

const TRACE_HEADERS: [&[u8]; 7] =
    [b"traceparent", b"b3", b"x-b3-traceid", b"x-b3-spanid", b"x-b3-parentspanid", b"x-b3-sampled", b"x-b3-flags"];

/// Lines of a digit, which says which header, and its value.
pub fn trace(data: &[u8]) {
    let mut headers = Headers::default();
    for line in data.split(|byte| *byte == b'\n') {
        if let Some((which, value)) = line.split_first() {
            headers.push(TRACE_HEADERS[usize::from(*which) % TRACE_HEADERS.len()], value);
        }
    }
    let Some(context) = TraceContext::extract(&headers) else { return };
    assert!(context.trace_id != 0 && context.span_id != 0);
    let mut sent = Headers::default();
    context.inject(&mut sent);
    let again = TraceContext::extract(&sent).expect("what we send is understood");
    assert_eq!((again.trace_id, again.span_id), (context.trace_id, context.span_id));
    assert_eq!((again.sampling, again.format), (context.sampling, context.format));
}

/// An exchange whose text is what an attacker likes best.
pub struct Hostile;

const EVIL: &[u8] = b"a\r\n\"}\x1b[2J\x00\\\xff";

impl LogView for Hostile {
    fn header(&self, _part: HeadPart, name: &str) -> Option<&[u8]> {
        (name.len() % 2 == 0).then_some(EVIL)
    }

    fn field(&self, field: Field) -> Value<'_> {
        match field {
            Field::ResponseCode => Value::Number(200),
            Field::Protocol => Value::None,
            _ => Value::Bytes(EVIL),
        }
    }

    fn start_time(&self) -> UnixNanos {
        UnixNanos(1_709_210_096_007_000_000)
    }

    fn elapsed(&self, point: TimePoint) -> Option<Duration> {
        matches!(point, TimePoint::Complete).then_some(Duration::from_micros(12_345))
    }

    fn metadata(&self, _owner: Owner) -> Option<&Metadata> {
        static ALL: LazyLock<Metadata> = LazyLock::new(|| {
            let text = || Found::String(String::from_utf8_lossy(EVIL).as_ref().into());
            let list = Found::List(vec![text(), text()]);
            let fields = [("b".into(), text()), (String::from_utf8_lossy(EVIL).as_ref().into(), list)];
            Metadata { filters: [("a".into(), fields.into())].into() }
        });
        Some(&ALL)
    }
}

/// A format: what it prints of an exchange neither breaks its line nor its JSON.
pub fn access_log(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(format) = TextFormat::parse(text) {
        let mut line = Vec::new();
        format.render(&Hostile, &mut line);
        for byte in [b'\r', b'\n', b'\0', 0x1b] {
            // `%n` of a time is a line break that the format itself asks for.
            let asked = data.contains(&byte) || byte == b'\n' && text.contains("%n");
            assert!(asked || !line.contains(&byte), "{}", line.escape_ascii());
        }
    }
    for absent in [Absent::Null, Absent::Omit] {
        let member = JsonTemplate::Text(text.to_owned());
        let list = JsonTemplate::List(vec![member.clone()]);
        let template = JsonTemplate::Object(vec![(text.to_owned(), member), ("l".to_owned(), list)]);
        let Ok(format) = JsonFormat::compile(&template, absent, &mut Vec::new()) else { return };
        let mut line = Vec::new();
        format.render(&Hostile, &mut line);
        let end = line.strip_suffix(b"\n").unwrap_or(&line);
        assert!(!end.contains(&b'\n'), "{}", line.escape_ascii());
        serde_json::from_slice::<serde_json::Value>(end)
            .unwrap_or_else(|error| panic!("{error}: {}", line.escape_ascii()));
    }
}
