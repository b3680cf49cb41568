//! Decoding header blocks (RFC 7541 §3, §6).

use super::statics::STATIC;
use super::table::Table;
use super::{Undecodable, huffman};
use crate::fields::{Fields, Meta};

/// Where decoded fields go, with what is known about them.
pub(crate) trait Sink {
    fn field(&mut self, meta: Meta, name: &[u8], value: &[u8]);
}

/// The decoding end of one direction of a connection.
pub struct Decoder {
    table: Table<Meta>,
    /// The largest table we announced.
    limit: usize,
    statics: Box<[Meta; 61]>,
    scratch: Vec<u8>,
    meta: fn(&[u8]) -> Meta,
}

/// A string's bytes, in the block or decoded into the scratch.
enum Text<'b> {
    Plain(&'b [u8]),
    Decoded(std::ops::Range<usize>),
}

impl<'b> Text<'b> {
    fn get(&self, scratch: &'b [u8]) -> &'b [u8] {
        match self {
            Text::Plain(bytes) => bytes,
            Text::Decoded(range) => &scratch[range.clone()],
        }
    }
}

enum Name<'b> {
    Indexed(usize),
    Literal(Text<'b>),
}

impl Decoder {
    pub fn new<F: Fields>(limit: usize) -> Decoder {
        Decoder {
            table: Table::new(limit),
            limit,
            statics: Box::new(STATIC.map(|(name, value)| Meta::of::<F>(name).with_value(value))),
            scratch: Vec::new(),
            meta: Meta::of::<F>,
        }
    }

    /// Decodes one whole block.
    pub(crate) fn decode(&mut self, mut block: &[u8], sink: &mut impl Sink) -> Result<(), Undecodable> {
        let mut fields = 0;
        while let Some(first) = block.first() {
            match *first {
                0x80.. => {
                    let index = integer(&mut block, 7)?;
                    let (name, value, meta) = entry(&self.table, &self.statics, index)?;
                    sink.field(meta, name, value);
                }
                0x40..0x80 => self.literal(&mut block, 6, sink)?,
                // A size update comes before all fields (RFC 7541 §4.2).
                0x20..0x40 if fields == 0 => {
                    let size = integer(&mut block, 5)?;
                    if size > self.limit {
                        return Err(Undecodable);
                    }
                    self.table.set_max(size);
                    continue;
                }
                0x20..0x40 => return Err(Undecodable),
                _ => self.literal(&mut block, 4, sink)?,
            }
            fields += 1;
        }
        if self.scratch.capacity() > 16_384 {
            self.scratch = Vec::new();
        }
        Ok(())
    }

    /// A literal; its index has `prefix` bits, and six mean that it is added to the table.
    fn literal(&mut self, block: &mut &[u8], prefix: u32, sink: &mut impl Sink) -> Result<(), Undecodable> {
        self.scratch.clear();
        let name = match integer(block, prefix)? {
            0 => Name::Literal(string(block, &mut self.scratch)?),
            index => Name::Indexed(index),
        };
        let value = string(block, &mut self.scratch)?;
        let value = value.get(&self.scratch);
        let (name, meta) = match &name {
            Name::Literal(text) => {
                let name = text.get(&self.scratch);
                (name, (self.meta)(name))
            }
            Name::Indexed(index) => {
                let (name, _, meta) = entry(&self.table, &self.statics, *index)?;
                // The entry's own value may be what is wrong with it.
                let meta = if matches!(meta.kind, crate::fields::Kind::Bad(_)) { (self.meta)(name) } else { meta };
                (name, meta)
            }
        };
        let meta = meta.with_value(value);
        sink.field(meta, name, value);
        if prefix == 6 {
            if name.len() <= 64 {
                let mut copy = [0; 64];
                let copy = &mut copy[..name.len()];
                copy.copy_from_slice(name);
                self.table.add(copy, value, meta);
            } else {
                let copy = name.to_vec();
                self.table.add(&copy, value, meta);
            }
        }
        Ok(())
    }
}

fn entry<'t>(
    table: &'t Table<Meta>,
    statics: &[Meta; 61],
    index: usize,
) -> Result<(&'t [u8], &'t [u8], Meta), Undecodable> {
    match index {
        0 => Err(Undecodable),
        1..=61 => {
            let (name, value) = STATIC[index - 1];
            Ok((name, value, statics[index - 1]))
        }
        _ => table.recent(index - 62).ok_or(Undecodable),
    }
}

/// A number whose first bits share a byte with something else (RFC 7541 §5.1); beyond 28 bits it is refused.
fn integer(block: &mut &[u8], prefix: u32) -> Result<usize, Undecodable> {
    let (first, mut rest) = block.split_first().ok_or(Undecodable)?;
    let all = (1usize << prefix) - 1;
    let mut value = usize::from(*first) & all;
    if value == all {
        let mut shift = 0;
        loop {
            let (byte, others) = rest.split_first().ok_or(Undecodable)?;
            rest = others;
            value += usize::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                break;
            }
            shift += 7;
            if shift > 21 {
                return Err(Undecodable);
            }
        }
    }
    *block = rest;
    Ok(value)
}

fn string<'b>(block: &mut &'b [u8], scratch: &mut Vec<u8>) -> Result<Text<'b>, Undecodable> {
    let coded = block.first().ok_or(Undecodable)? & 0x80 != 0;
    let len = integer(block, 7)?;
    let (text, rest) = block.split_at_checked(len).ok_or(Undecodable)?;
    *block = rest;
    if !coded {
        return Ok(Text::Plain(text));
    }
    let from = scratch.len();
    huffman::decode(text, scratch)?;
    Ok(Text::Decoded(from..scratch.len()))
}
