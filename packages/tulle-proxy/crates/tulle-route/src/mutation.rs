//! Adding, replacing and removing header fields at the four levels of a route table.

use tulle_core::{HeadersMut, Str};
use tulle_policy::StringMatcher;
use tulle_telemetry::{LogView, TextFormat};

use crate::select::Selected;

/// `HeaderValueOption.append_action`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AppendAction {
    #[default]
    AppendIfExistsOrAdd,
    AddIfAbsent,
    OverwriteIfExistsOrAdd,
    OverwriteIfExists,
}

/// One field to add; its value is a compiled format (`%…%` operators), or plain text.
#[derive(Clone, Debug)]
pub struct HeaderValue {
    /// In lower case; never `host` or a pseudo-header.
    pub name: Str,
    pub value: TextFormat,
    pub action: AppendAction,
    /// Add the field even when its value turns out empty.
    pub keep_empty: bool,
}

/// The additions and removals of one level.
#[derive(Clone, Debug, Default)]
pub struct HeaderMutations {
    pub request_add: Box<[HeaderValue]>,
    pub request_remove: Box<[Str]>,
    pub response_add: Box<[HeaderValue]>,
    pub response_remove: Box<[Str]>,
}

impl HeaderMutations {
    pub fn is_empty(&self) -> bool {
        self.request_add.is_empty()
            && self.request_remove.is_empty()
            && self.response_add.is_empty()
            && self.response_remove.is_empty()
    }
}

/// What one level does to one head.
#[derive(Clone, Copy, Debug)]
pub struct Edits<'c> {
    pub remove: &'c [Str],
    pub add: &'c [HeaderValue],
}

impl HeaderMutations {
    pub fn request(&self) -> Edits<'_> {
        Edits { remove: &self.request_remove, add: &self.request_add }
    }

    pub fn response(&self) -> Edits<'_> {
        Edits { remove: &self.response_remove, add: &self.response_add }
    }
}

impl Edits<'_> {
    /// Removes, then overwrites, then adds, as Envoy's `HeaderParser`; `scratch` is a buffer to reuse.
    pub fn apply<V, H>(&self, view: &V, head: &mut H, scratch: &mut Vec<u8>)
    where
        V: LogView + ?Sized,
        H: HeadersMut + ?Sized,
    {
        for name in self.remove {
            head.remove(name);
        }
        let overwrites = |value: &&HeaderValue| value.action.overwrites();
        for value in self.add.iter().filter(overwrites) {
            value.apply(view, head, scratch);
        }
        for value in self.add.iter().filter(|value| !overwrites(value)) {
            value.apply(view, head, scratch);
        }
    }
}

/// One change to a head (`envoy.config.common.mutation_rules.v3.HeaderMutation`).
#[derive(Clone, Debug)]
pub enum HeaderMutation {
    Add(HeaderValue),
    Remove(Str),
    /// Every field whose name matches.
    RemoveNamed(StringMatcher),
}

impl HeaderMutation {
    /// Changes `head`; `view` is what formats tell of, `scratch` a buffer to reuse.
    pub fn apply<V, H>(&self, view: &V, head: &mut H, scratch: &mut Vec<u8>)
    where
        V: LogView + ?Sized,
        H: HeadersMut + ?Sized,
    {
        match self {
            HeaderMutation::Add(value) => value.apply(view, head, scratch),
            HeaderMutation::Remove(name) => head.remove(name),
            HeaderMutation::RemoveNamed(matcher) => {
                let mut names: Vec<String> = Vec::new();
                head.visit_headers(&mut |name, _| {
                    names.extend(matcher.matches(name).then(|| String::from_utf8_lossy(name).into_owned()));
                });
                names.iter().for_each(|name| head.remove(name));
            }
        }
    }
}

impl AppendAction {
    fn overwrites(self) -> bool {
        matches!(self, AppendAction::OverwriteIfExists | AppendAction::OverwriteIfExistsOrAdd)
    }
}

impl HeaderValue {
    pub fn apply<V, H>(&self, view: &V, head: &mut H, scratch: &mut Vec<u8>)
    where
        V: LogView + ?Sized,
        H: HeadersMut + ?Sized,
    {
        scratch.clear();
        self.value.render_header(view, scratch);
        if scratch.is_empty() && !self.keep_empty {
            return;
        }
        match (self.action, head.header(&self.name).is_some()) {
            (AppendAction::AddIfAbsent, true) | (AppendAction::OverwriteIfExists, false) => {}
            (AppendAction::AppendIfExistsOrAdd | AppendAction::AddIfAbsent, _) => head.append(&self.name, scratch),
            (AppendAction::OverwriteIfExists | AppendAction::OverwriteIfExistsOrAdd, _) => {
                head.set(&self.name, scratch);
            }
        }
    }
}

/// Applies every level's request mutations.
pub fn apply_request<V, H>(selected: &Selected<'_>, view: &V, head: &mut H, scratch: &mut Vec<u8>)
where
    V: LogView + ?Sized,
    H: HeadersMut + ?Sized,
{
    selected.levels().for_each(|level| level.request().apply(view, head, scratch));
}

/// Applies every level's response mutations.
pub fn apply_response<V, H>(selected: &Selected<'_>, view: &V, head: &mut H, scratch: &mut Vec<u8>)
where
    V: LogView + ?Sized,
    H: HeadersMut + ?Sized,
{
    selected.levels().for_each(|level| level.response().apply(view, head, scratch));
}
