//! A filter that changes heads (`envoy.filters.http.header_mutation`).

use std::sync::Arc;

use tulle_config::filters::Named;
use tulle_policy::FilterOverride;
use tulle_route::{FilterMutations, Selected};

use super::Exchange;
use super::record::View;

/// Changes the request's head, and has the response's changed later.
pub fn begin(x: &mut Exchange<'_>, own: &Named<FilterMutations>, selected: Option<&Selected<'_>>) {
    let said = |selected: &Selected<'_>| selected.filter_override(&own.name).cloned();
    if matches!(selected.and_then(said), Some(FilterOverride::Off)) {
        return;
    }
    let mut all = vec![own.settings.clone()];
    let levels = selected.into_iter().flat_map(|selected| selected.filter_overrides(&own.name)).filter_map(of_level);
    all.extend(levels);
    if own.settings.most_specific_wins {
        all[1..].reverse();
    }
    for mutation in all.iter().flat_map(|settings| &settings.request) {
        let heads = &mut *x.heads;
        let view = View::new(x.client, &heads.request, None, &x.record);
        if mutation.render(&view, &heads.request.headers, &mut heads.scratch) {
            mutation.write(&mut heads.request.headers, &heads.scratch);
        }
    }
    if all.iter().any(|settings| !settings.response.is_empty()) {
        x.record.edits.get_or_insert_default().changes.push(all);
    }
}

fn of_level(said: &FilterOverride) -> Option<Arc<FilterMutations>> {
    let FilterOverride::Other(settings) = said else { return None };
    settings.clone().any().downcast().ok()
}

/// Changes the response's head: the last filter of the chain comes first.
pub fn end(x: &mut Exchange<'_>) {
    let Some(edits) = &mut x.record.edits else { return };
    let changes = std::mem::take(&mut edits.changes);
    if changes.is_empty() {
        return;
    }
    // What formats may ask about.
    x.record.status = x.heads.response.status;
    for mutation in changes.iter().rev().flatten().flat_map(|settings| &settings.response) {
        let heads = &mut *x.heads;
        let response = Some(&heads.response);
        let view = View::new(x.client, &heads.request, response, &x.record);
        if mutation.render(&view, &heads.response.headers, &mut heads.scratch) {
            mutation.write(&mut heads.response.headers, &heads.scratch);
        }
    }
}
