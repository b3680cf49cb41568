//! HPACK against the examples of RFC 7541, appendix C, and against itself.

use proptest::prelude::*;

use super::{BlockWriter, Decoder, Encoder, Sink, Undecodable};
use crate::fields::{Fields, Kind, Meta, Pseudo};
use crate::frame::HEADER;

#[derive(Default)]
struct Nothing;

impl Fields for Nothing {
    fn class(_: &[u8]) -> u8 {
        0
    }
    fn pseudo(&mut self, _: Pseudo, _: &[u8]) {}
    fn field(&mut self, _: u8, _: &[u8], _: &[u8]) {}
    fn complete(&mut self) {}
    fn clear(&mut self) {}
}

type Pairs = Vec<(Vec<u8>, Vec<u8>)>;

#[derive(Default)]
struct List(Pairs, usize);

impl Sink for List {
    fn field(&mut self, meta: Meta, name: &[u8], value: &[u8]) {
        self.0.push((name.to_vec(), value.to_vec()));
        self.1 += usize::from(matches!(meta.kind, Kind::Bad(_)));
    }
}

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex.bytes().filter(u8::is_ascii_hexdigit).collect();
    digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

fn decoded(decoder: &mut Decoder, block: &[u8]) -> Result<String, Undecodable> {
    let mut list = List::default();
    decoder.decode(block, &mut list)?;
    let text = |b: &[u8]| String::from_utf8_lossy(b).into_owned();
    Ok(list.0.iter().map(|(n, v)| format!("{}={}\n", text(n), text(v))).collect())
}

const REQUESTS: [&str; 3] = [
    ":method=GET\n:scheme=http\n:path=/\n:authority=www.example.com\n",
    ":method=GET\n:scheme=http\n:path=/\n:authority=www.example.com\ncache-control=no-cache\n",
    ":method=GET\n:scheme=https\n:path=/index.html\n:authority=www.example.com\ncustom-key=custom-value\n",
];

#[test]
fn appendix_c_3_requests() {
    let mut decoder = Decoder::new::<Nothing>(4096);
    let blocks = [
        "828684410f7777772e6578616d706c652e636f6d",
        "828684be58086e6f2d6361636865",
        "828785bf400a637573746f6d2d6b65790c637573746f6d2d76616c7565",
    ];
    for (block, expected) in blocks.iter().zip(REQUESTS) {
        assert_eq!(decoded(&mut decoder, &bytes(block)).unwrap(), expected);
    }
}

#[test]
fn appendix_c_4_requests_with_huffman_coding() {
    let mut decoder = Decoder::new::<Nothing>(4096);
    let blocks = [
        "828684418cf1e3c2e5f23a6ba0ab90f4ff",
        "828684be5886a8eb10649cbf",
        "828785bf408825a849e95ba97d7f8925a849e95bb8e8b4bf",
    ];
    for (block, expected) in blocks.iter().zip(REQUESTS) {
        assert_eq!(decoded(&mut decoder, &bytes(block)).unwrap(), expected);
    }
}

#[test]
fn appendix_c_5_and_6_responses_that_evict() {
    let plain = [
        "4803333032580770726976617465611d4d6f6e2c203231204f637420323031332032303a31333a323120474d546e1768747470733a2f2f
         7777772e6578616d706c652e636f6d",
        "4803333037c1c0bf",
        "88c1611d4d6f6e2c203231204f637420323031332032303a31333a323220474d54c05a04677a69707738666f6f3d4153444a4b48514b425a
         584f5157454f50495541585157454f49553b206d61782d6167653d333630303b2076657273696f6e3d31",
    ];
    let coded = [
        "488264025885aec3771a4b6196d07abe941054d444a8200595040b8166e082a62d1bff6e919d29ad171863c78f0b97c8e9ae82ae43d3",
        "4883640effc1c0bf",
        "88c16196d07abe941054d444a8200595040b8166e084a62d1bffc05a839bd9ab77ad94e7821dd7f2e6c7b335dfdfcd5b3960d5af27087f36
         72c1ab270fb5291f9587316065c003ed4ee5b1063d5007",
    ];
    let expected = [
        ":status=302\ncache-control=private\ndate=Mon, 21 Oct 2013 20:13:21 GMT\nlocation=https://www.example.com\n",
        ":status=307\ncache-control=private\ndate=Mon, 21 Oct 2013 20:13:21 GMT\nlocation=https://www.example.com\n",
        ":status=200\ncache-control=private\ndate=Mon, 21 Oct 2013 20:13:22 GMT\nlocation=https://www.example.com\n\
         content-encoding=gzip\nset-cookie=foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1\n",
    ];
    for blocks in [plain, coded] {
        let mut decoder = Decoder::new::<Nothing>(256);
        for (block, expected) in blocks.iter().zip(expected) {
            assert_eq!(decoded(&mut decoder, &bytes(block)).unwrap(), expected);
        }
    }
}

#[test]
fn what_cannot_be_decoded() {
    let bad = [
        ("an index of nothing", "80"),
        ("an index beyond the tables", "be"),
        ("a number without end", "ffffffffffff7f"),
        ("a string longer than the block", "400a6162"),
        ("a table larger than announced", "3fe2ff01"),
        ("a table size after a field", "8220"),
        ("a name without its value", "400161"),
    ];
    for (what, block) in bad {
        assert!(decoded(&mut Decoder::new::<Nothing>(4096), &bytes(block)).is_err(), "{what}");
    }
}

#[test]
fn a_bad_value_stays_bad_in_the_table_and_a_good_one_by_its_name_is_good() {
    let mut decoder = Decoder::new::<Nothing>(4096);
    let mut list = List::default();
    decoder.decode(&bytes("400161020a62 be"), &mut list).unwrap();
    assert_eq!(list.1, 2);
    decoder.decode(&bytes("0f2f0162"), &mut list).unwrap();
    assert_eq!((list.0.len(), list.1), (3, 2));
}

fn encoded(encoder: &mut Encoder, list: &Pairs) -> Vec<u8> {
    let mut out = Vec::new();
    let mut block = BlockWriter::begin(encoder, &mut out);
    for (name, value) in list {
        block.field(name, value);
    }
    block.finish(1, true, usize::MAX >> 1);
    out.split_off(HEADER)
}

fn pair(name: &str, value: &str) -> (Vec<u8>, Vec<u8>) {
    (name.into(), value.into())
}

#[test]
fn what_repeats_costs_a_byte_and_what_changes_evicts_nothing() {
    let mut encoder = Encoder::new();
    let mut decoder = Decoder::new::<Nothing>(4096);
    for n in 0..1000 {
        let number = n.to_string();
        let list = vec![
            pair(":authority", "shop.example.com"),
            pair("user-agent", "curl/8"),
            pair("x-request-id", &format!("{n:036}")),
            pair("x-changing", &number),
        ];
        let block = encoded(&mut encoder, &list);
        if n > 100 {
            assert!(block.len() <= 2 + 2 + 36 + 2 + number.len() + 2, "{n}: {}", block.len());
        }
        let mut seen = List::default();
        decoder.decode(&block, &mut seen).unwrap();
        assert_eq!(seen.0, list);
    }
}

#[test]
fn secrets_are_never_indexed() {
    let mut encoder = Encoder::new();
    for _ in 0..2 {
        for name in ["authorization", "cookie", "set-cookie", "proxy-authorization"] {
            let block = encoded(&mut encoder, &vec![pair(name, "secret")]);
            assert_eq!(block[0] & 0xf0, 0x10, "{name}");
            assert!(block.windows(6).any(|w| w == b"secret"));
        }
    }
}

fn lists() -> impl Strategy<Value = Vec<Pairs>> {
    let name = prop_oneof![
        Just("content-type".to_owned()),
        Just(":path".to_owned()),
        Just("x-request-id".to_owned()),
        "[a-z][a-z-]{0,6}",
        "[a-z]{60,70}"
    ];
    let value = prop_oneof!["[ -~]{0,4}", "[a-c]", "[a-z]{120,200}"];
    let field = (name, value).prop_map(|(n, v): (String, String)| (n.into_bytes(), v.into_bytes()));
    proptest::collection::vec(proptest::collection::vec(field, 0..12), 1..40)
}

proptest! {
    #[test]
    fn heads_come_back(lists in lists(), limits in proptest::collection::vec(prop_oneof![Just(0), Just(100), Just(600), Just(4096)], 40)) {
        let mut encoder = Encoder::new();
        let mut decoder = Decoder::new::<Nothing>(4096);
        for (list, limit) in lists.iter().zip(limits) {
            encoder.set_limit(limit);
            let block = encoded(&mut encoder, list);
            let mut seen = List::default();
            decoder.decode(&block, &mut seen).unwrap();
            prop_assert_eq!(&seen.0, list);
        }
    }

    #[test]
    fn noise_is_decoded_or_refused(noise in proptest::collection::vec(any::<u8>(), 0..300)) {
        let mut list = List::default();
        let _ = Decoder::new::<Nothing>(4096).decode(&noise, &mut list);
    }
}
