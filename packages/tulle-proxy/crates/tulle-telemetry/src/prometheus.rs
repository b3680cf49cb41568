//! The Prometheus text exposition format (version 0.0.4) of a registry, summed over its workers.

use std::fmt::Write;

use crate::registry::{Families, Family, Kind, Registry};
use crate::scoped::Series;

/// The content type to answer with.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Appends all families, by name, and their series, by label set; equal numbers give equal text.
pub fn render(registry: &Registry, out: &mut String) {
    let families = registry.lock();
    let own = families.by_name.iter().map(|(name, family)| (*name, Known::Family(family)));
    let scoped = families.scopes.families();
    let scoped = scoped.map(|(name, help, kind, series)| (name, Known::Scoped(help, kind, series)));
    let mut names: Vec<_> = own.chain(scoped).collect();
    names.sort_by_key(|(name, _)| *name);
    for (name, known) in names {
        let done = match known {
            Known::Family(family) => render_family(&families, name, family, out),
            Known::Scoped(help, kind, series) => render_scoped(&families, (name, help, kind), &series, out),
        };
        done.expect("writing to memory");
    }
}

enum Known<'a> {
    Family(&'a Family),
    Scoped(&'static str, Kind, Series<'a>),
}

fn render_scoped(
    families: &Families,
    (name, help, kind): (&str, &str, Kind),
    series: &Series<'_>,
    out: &mut String,
) -> std::fmt::Result {
    head(out, name, help, kind)?;
    for (label, value, slot) in series.iter() {
        let text = format!("{label}=\"{}\"", Escaped(value));
        number(families, (name, kind), &text, slot, out)?;
    }
    Ok(())
}

fn head(out: &mut String, name: &str, help: &str, kind: Kind) -> std::fmt::Result {
    let kind = match kind {
        Kind::Counter => "counter",
        Kind::Gauge => "gauge",
        Kind::Histogram(_) => "histogram",
    };
    writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}")
}

fn number(
    families: &Families,
    (name, kind): (&str, Kind),
    labels: &str,
    slot: u32,
    out: &mut String,
) -> std::fmt::Result {
    match kind {
        Kind::Counter => line(out, name, labels, families.sum(slot)),
        Kind::Gauge => line(out, name, labels, families.sum(slot) as i64),
        Kind::Histogram(bounds) => histogram(families, name, labels, (slot, bounds), out),
    }
}

fn render_family(families: &Families, name: &str, family: &Family, out: &mut String) -> std::fmt::Result {
    head(out, name, family.help, family.kind)?;
    let mut series: Vec<_> = family.series.iter().collect();
    series.sort();
    for (labels, slot) in series {
        let mut text = String::new();
        for (position, (key, value)) in labels.iter().enumerate() {
            let comma = if position > 0 { "," } else { "" };
            write!(text, "{comma}{key}=\"{}\"", Escaped(value))?;
        }
        number(families, (name, family.kind), &text, *slot, out)?;
    }
    Ok(())
}

fn line(out: &mut String, name: &str, labels: &str, value: impl std::fmt::Display) -> std::fmt::Result {
    if labels.is_empty() { writeln!(out, "{name} {value}") } else { writeln!(out, "{name}{{{labels}}} {value}") }
}

fn histogram(
    families: &Families,
    name: &str,
    labels: &str,
    (slot, bounds): (u32, &[f64]),
    out: &mut String,
) -> std::fmt::Result {
    let comma = if labels.is_empty() { "" } else { "," };
    let mut total = 0;
    for (position, bound) in bounds.iter().enumerate() {
        total += families.sum(slot + position as u32);
        writeln!(out, "{name}_bucket{{{labels}{comma}le=\"{bound}\"}} {total}")?;
    }
    total += families.sum(slot + bounds.len() as u32);
    writeln!(out, "{name}_bucket{{{labels}{comma}le=\"+Inf\"}} {total}")?;
    let sum = families.sum(slot + bounds.len() as u32 + 1) as f64 / 1000.0;
    line(out, &format!("{name}_sum"), labels, sum)?;
    line(out, &format!("{name}_count"), labels, total)
}

/// A label's value with backslash, quote and newline escaped.
pub struct Escaped<'a>(pub &'a str);

impl std::fmt::Display for Escaped<'_> {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for character in self.0.chars() {
            match character {
                '\\' => out.write_str("\\\\")?,
                '"' => out.write_str("\\\"")?,
                '\n' => out.write_str("\\n")?,
                other => out.write_char(other)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_are_summed_and_text_is_escaped() {
        let registry = Registry::new();
        let (first, second) = (registry.sheet(), registry.sheet());
        let requests = registry.counter("x_total", "Requests.", &[("path", "a\"b\\c\nd")]);
        assert_eq!(requests, registry.counter("x_total", "Requests.", &[("path", "a\"b\\c\nd")]));
        let open = registry.gauge("open", "Open.", &[]);
        let took = registry.histogram("took", "Time.", &[1.0, 5.0], &[("a", "b")]);
        first.inc(requests);
        second.add(requests, 2);
        first.move_by(open, 3);
        second.move_by(open, -1);
        [0.5, 1.0, 2.0, 9.0].into_iter().for_each(|value| first.observe(took, value));
        let mut text = String::new();
        render(&registry, &mut text);
        let expected = concat!(
            "# HELP open Open.\n# TYPE open gauge\nopen 2\n",
            "# HELP took Time.\n# TYPE took histogram\n",
            "took_bucket{a=\"b\",le=\"1\"} 2\ntook_bucket{a=\"b\",le=\"5\"} 3\ntook_bucket{a=\"b\",le=\"+Inf\"} 4\n",
            "took_sum{a=\"b\"} 12.5\ntook_count{a=\"b\"} 4\n",
            "# HELP x_total Requests.\n# TYPE x_total counter\nx_total{path=\"a\\\"b\\\\c\\nd\"} 3\n",
        );
        assert_eq!(text, expected);
    }

    #[test]
    fn numbers_of_a_finished_worker_stay_in_the_sum() {
        let registry = Registry::new();
        let requests = registry.counter("x_total", "Requests.", &[]);
        let sheet = registry.sheet();
        sheet.inc(requests);
        drop(sheet);
        assert_eq!(registry.value(requests), 1);
    }
}
