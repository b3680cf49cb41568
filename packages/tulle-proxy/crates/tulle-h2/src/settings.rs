//! SETTINGS: what the peer allows, read and checked (RFC 9113 §6.5, RFC 8441 §3).

use crate::frame::{self, MAX_FRAME, MAX_WINDOW};
use crate::reason::Reason;

mod id {
    pub const HEADER_TABLE_SIZE: u16 = 1;
    pub const ENABLE_PUSH: u16 = 2;
    pub const MAX_CONCURRENT_STREAMS: u16 = 3;
    pub const INITIAL_WINDOW_SIZE: u16 = 4;
    pub const MAX_FRAME_SIZE: u16 = 5;
    pub const MAX_HEADER_LIST_SIZE: u16 = 6;
    pub const ENABLE_CONNECT_PROTOCOL: u16 = 8;
}

/// The peer's settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    pub table: u32,
    pub max_streams: u32,
    pub window: u32,
    pub frame: usize,
    pub extended_connect: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Settings { table: 4096, max_streams: u32::MAX, window: 65_535, frame: MAX_FRAME, extended_connect: false }
    }
}

impl Settings {
    /// Takes a frame's payload over.
    pub fn read(&mut self, payload: &[u8]) -> Result<(), Reason> {
        if !payload.len().is_multiple_of(6) {
            return Err(Reason::FRAME_SIZE_ERROR);
        }
        for entry in payload.chunks_exact(6) {
            let value = frame::number(&entry[2..]);
            match u16::from_be_bytes([entry[0], entry[1]]) {
                id::HEADER_TABLE_SIZE => self.table = value,
                id::ENABLE_PUSH if value > 1 => return Err(Reason::PROTOCOL_ERROR),
                id::MAX_CONCURRENT_STREAMS => self.max_streams = value,
                id::INITIAL_WINDOW_SIZE if i64::from(value) > MAX_WINDOW => return Err(Reason::FLOW_CONTROL_ERROR),
                id::INITIAL_WINDOW_SIZE => self.window = value,
                id::MAX_FRAME_SIZE if !(MAX_FRAME..1 << 24).contains(&(value as usize)) => {
                    return Err(Reason::PROTOCOL_ERROR);
                }
                id::MAX_FRAME_SIZE => self.frame = value as usize,
                // Once offered it cannot be taken back (RFC 8441 §3).
                id::ENABLE_CONNECT_PROTOCOL if value > 1 || (value == 0 && self.extended_connect) => {
                    return Err(Reason::PROTOCOL_ERROR);
                }
                id::ENABLE_CONNECT_PROTOCOL => self.extended_connect = value == 1,
                _ => {}
            }
        }
        Ok(())
    }
}

/// What we announce.
#[derive(Clone, Copy, Debug)]
pub struct Announced {
    pub window: u32,
    pub header_list: u32,
    /// As a server.
    pub max_streams: Option<u32>,
    /// As a server that takes it.
    pub extended_connect: bool,
}

impl Announced {
    /// Appends the SETTINGS frame.
    pub fn write(self, out: &mut Vec<u8>) {
        let mut payload = Vec::with_capacity(24);
        let mut add = |id: u16, value: u32| {
            payload.extend_from_slice(&id.to_be_bytes());
            payload.extend_from_slice(&value.to_be_bytes());
        };
        match self.max_streams {
            Some(max) => {
                add(id::MAX_CONCURRENT_STREAMS, max);
                if self.extended_connect {
                    add(id::ENABLE_CONNECT_PROTOCOL, 1);
                }
            }
            None => add(id::ENABLE_PUSH, 0),
        }
        add(id::INITIAL_WINDOW_SIZE, self.window);
        add(id::MAX_HEADER_LIST_SIZE, self.header_list);
        frame::put(out, frame::kind::SETTINGS, 0, 0, &payload);
    }
}
