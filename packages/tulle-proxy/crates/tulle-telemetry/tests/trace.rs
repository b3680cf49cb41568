//! Trace contexts: round trips through every format, and malformed ones that must not matter.

use proptest::prelude::*;
use tulle_core::{Headers, HeadersMut, Rng};
use tulle_telemetry::TraceContext;
use tulle_telemetry::trace::{Format, Sampling};

#[derive(Clone, Debug, Default)]
struct Head(Vec<(String, Vec<u8>)>);

impl Headers for Head {
    fn header(&self, name: &str) -> Option<&[u8]> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| &value[..])
    }

    fn visit_values(&self, name: &str, visit: &mut dyn FnMut(&[u8])) {
        self.0.iter().filter(|(key, _)| key == name).for_each(|(_, value)| visit(value));
    }

    fn visit_headers(&self, visit: &mut dyn FnMut(&[u8], &[u8])) {
        self.0.iter().for_each(|(key, value)| visit(key.as_bytes(), value));
    }
}

impl HeadersMut for Head {
    fn append(&mut self, name: &str, value: &[u8]) {
        self.0.push((name.into(), value.into()));
    }

    fn set(&mut self, name: &str, value: &[u8]) {
        self.remove(name);
        self.append(name, value);
    }

    fn remove(&mut self, name: &str) {
        self.0.retain(|(key, _)| key != name);
    }
}

fn head(pairs: &[(&str, &str)]) -> Head {
    Head(pairs.iter().map(|(name, value)| ((*name).into(), value.as_bytes().to_vec())).collect())
}

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const SPAN: &str = "00f067aa0ba902b7";

#[test]
fn published_examples_are_read() {
    let w3c = TraceContext::extract(&head(&[("traceparent", &format!("00-{TRACE}-{SPAN}-01"))])).unwrap();
    assert_eq!((w3c.format, w3c.sampling), (Format::W3c, Some(Sampling::Record)));
    assert_eq!((w3c.trace_id, w3c.span_id), (0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736, 0x00f0_67aa_0ba9_02b7));
    let single =
        TraceContext::extract(&head(&[("b3", "80f198ee56343ba864fe8b2a57d3eff7-e457b5a2e4d86bd1-1-05e3ac9a4f6e3b90")]));
    assert_eq!(single.unwrap().parent_id, Some(0x05e3_ac9a_4f6e_3b90));
    let multi =
        TraceContext::extract(&head(&[("x-b3-traceid", "463ac35c9f6413ad"), ("x-b3-spanid", "a2fb4a1d1a96d312")]));
    assert_eq!((multi.unwrap().sampling, multi.unwrap().trace_id), (None, 0x463a_c35c_9f64_13ad));
}

#[test]
fn malformed_contexts_count_as_absent() {
    for traceparent in [
        "",
        "00",
        &format!("00-{TRACE}-{SPAN}"),
        &format!("00-{TRACE}-{SPAN}-01-extra"),
        &format!("ff-{TRACE}-{SPAN}-01"),
        &format!("00-{}-{SPAN}-01", "0".repeat(32)),
        &format!("00-{TRACE}-{}-01", "0".repeat(16)),
        &format!("00-{}-{SPAN}-01", &TRACE[1..]),
        &format!("00-{}-{SPAN}-01", TRACE.to_uppercase()),
        &format!("00-{TRACE}-{SPAN}-0x"),
    ] {
        assert_eq!(TraceContext::extract(&head(&[("traceparent", traceparent)])), None, "{traceparent}");
    }
    for b3 in [
        "0",
        "d",
        "1-2",
        &format!("{TRACE}-{SPAN}-x"),
        &format!("{TRACE}-{SPAN}-1-1"),
        &format!("+{}-{SPAN}", &TRACE[1..]),
    ] {
        assert_eq!(TraceContext::extract(&head(&[("b3", b3)])), None, "{b3}");
    }
    assert_eq!(TraceContext::extract(&head(&[("x-b3-traceid", TRACE), ("x-b3-spanid", "12")])), None);
    let later = format!("01-{TRACE}-{SPAN}-01-extra");
    assert!(TraceContext::extract(&head(&[("traceparent", &later)])).is_some(), "a later version may have more");
}

#[test]
fn a_child_goes_out_in_the_format_it_came_in() {
    let parent = TraceContext::extract(&head(&[
        ("x-b3-traceid", "463ac35c9f6413ad"),
        ("x-b3-spanid", "a2fb4a1d1a96d312"),
        ("x-b3-sampled", "1"),
    ]));
    let child = parent.unwrap().child(&mut Rng::seeded(1));
    let mut out = head(&[("x-b3-parentspanid", "stale")]);
    child.inject(&mut out);
    assert_eq!(out.header("x-b3-traceid"), Some(&b"463ac35c9f6413ad"[..]));
    assert_eq!(out.header("x-b3-parentspanid"), Some(&b"a2fb4a1d1a96d312"[..]));
    assert_eq!(out.header("x-b3-sampled"), Some(&b"1"[..]));
    assert_eq!(out.header("traceparent"), None);
}

proptest! {
    #[test]
    fn contexts_round_trip(seed: u64, format in 0usize..3, sampling in 0usize..2, child: bool) {
        let format = [Format::B3Multi, Format::B3Single, Format::W3c][format];
        let sampling = [Sampling::Record, Sampling::Skip][sampling];
        let mut rng = Rng::seeded(seed);
        let mut context = TraceContext::fresh(format, sampling, &mut rng);
        if child && format != Format::W3c {
            context = context.child(&mut rng);
        }
        let mut out = Head::default();
        context.inject(&mut out);
        prop_assert_eq!(TraceContext::extract(&out), Some(context));
    }

    #[test]
    fn any_bytes_are_survived(value: Vec<u8>) {
        for name in ["traceparent", "b3", "x-b3-traceid"] {
            let _ = TraceContext::extract(&Head(vec![(name.into(), value.clone())]));
        }
    }
}
