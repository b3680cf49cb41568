//! Adding, replacing and removing header fields at the four levels of a route table.

use tulle_core::{Headers, HeadersMut, Str};
use tulle_policy::StringMatcher;
use tulle_telemetry::{LogView, TextFormat};

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
    /// All of it, where formats do not look at the head that is changed; `scratch` is a buffer to reuse.
    pub fn apply<V, H>(&self, view: &V, head: &mut H, scratch: &mut Vec<u8>)
    where
        V: LogView + ?Sized,
        H: HeadersMut + ?Sized,
    {
        self.remove(head);
        self.render(view, head, scratch);
        self.write(head, scratch);
    }

    /// First of all, as in Envoy's `HeaderParser`: a level can replace what it removes.
    pub fn remove<H: HeadersMut + ?Sized>(&self, head: &mut H) {
        self.remove.iter().for_each(|name| head.remove(name));
    }

    /// Then every value, and whether it is added, is found by the head as it is before any is written.
    pub fn render<V, H>(&self, view: &V, head: &H, scratch: &mut Vec<u8>)
    where
        V: LogView + ?Sized,
        H: Headers + ?Sized,
    {
        scratch.clear();
        for value in self.add {
            let length_at = scratch.len();
            scratch.extend_from_slice(&NOT_WRITTEN.to_ne_bytes());
            let start = scratch.len();
            value.value.render_header(view, scratch);
            let length = (scratch.len() - start) as u32;
            if (length > 0 || value.keep_empty) && value.action.concerns(head.header(&value.name).is_some()) {
                scratch[length_at..start].copy_from_slice(&length.to_ne_bytes());
            } else {
                scratch.truncate(start);
            }
        }
    }

    /// Then what overwrites is written, and then what is added.
    pub fn write<H: HeadersMut + ?Sized>(&self, head: &mut H, rendered: &[u8]) {
        for (value, text) in self.rendered(rendered).filter(|(value, _)| value.action.overwrites()) {
            head.set(&value.name, text);
        }
        for (value, text) in self.rendered(rendered).filter(|(value, _)| !value.action.overwrites()) {
            head.append(&value.name, text);
        }
    }

    fn rendered<'t>(&self, mut rest: &'t [u8]) -> impl Iterator<Item = (&HeaderValue, &'t [u8])> {
        self.add.iter().filter_map(move |value| {
            let (length, behind) = rest.split_first_chunk()?;
            let length = u32::from_ne_bytes(*length);
            let taken = if length == NOT_WRITTEN { 0 } else { length as usize };
            let (text, behind) = behind.split_at_checked(taken)?;
            rest = behind;
            (length != NOT_WRITTEN).then_some((value, text))
        })
    }
}

/// In the place of the length of a value that is not written.
const NOT_WRITTEN: u32 = u32::MAX;

/// One change to a head (`envoy.config.common.mutation_rules.v3.HeaderMutation`).
#[derive(Clone, Debug)]
pub enum HeaderMutation {
    Add(HeaderValue),
    Remove(Str),
    /// Every field whose name matches.
    RemoveNamed(StringMatcher),
}

/// What a filter changes in heads (`envoy.extensions.filters.http.header_mutation.v3`), each list in its order.
#[derive(Debug, Default)]
pub struct FilterMutations {
    pub request: Box<[HeaderMutation]>,
    pub response: Box<[HeaderMutation]>,
    /// Of the filter itself: whether what routes say comes after what virtual hosts say.
    pub most_specific_wins: bool,
}

impl HeaderMutation {
    /// Whether anything is to be written to `head`, which `view` may look at; the value goes into `scratch`.
    pub fn render<V, H>(&self, view: &V, head: &H, scratch: &mut Vec<u8>) -> bool
    where
        V: LogView + ?Sized,
        H: Headers + ?Sized,
    {
        scratch.clear();
        match self {
            HeaderMutation::Add(value) => {
                value.value.render_header(view, scratch);
                (!scratch.is_empty() || value.keep_empty) && value.action.concerns(head.header(&value.name).is_some())
            }
            HeaderMutation::Remove(_) | HeaderMutation::RemoveNamed(_) => true,
        }
    }

    /// Writes what was rendered.
    pub fn write<H: HeadersMut + ?Sized>(&self, head: &mut H, rendered: &[u8]) {
        match self {
            HeaderMutation::Add(value) if value.action.overwrites() => head.set(&value.name, rendered),
            HeaderMutation::Add(value) => head.append(&value.name, rendered),
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

    /// Changes `head`; `view` is what formats tell of, `scratch` a buffer to reuse.
    pub fn apply<V, H>(&self, view: &V, head: &mut H, scratch: &mut Vec<u8>)
    where
        V: LogView + ?Sized,
        H: HeadersMut + ?Sized,
    {
        if self.render(view, head, scratch) {
            self.write(head, scratch);
        }
    }
}

impl AppendAction {
    /// Whether anything is written to a head that has the field, or has not.
    fn concerns(self, present: bool) -> bool {
        match self {
            AppendAction::AddIfAbsent => !present,
            AppendAction::OverwriteIfExists => present,
            AppendAction::AppendIfExistsOrAdd | AppendAction::OverwriteIfExistsOrAdd => true,
        }
    }

    fn overwrites(self) -> bool {
        matches!(self, AppendAction::OverwriteIfExists | AppendAction::OverwriteIfExistsOrAdd)
    }
}
