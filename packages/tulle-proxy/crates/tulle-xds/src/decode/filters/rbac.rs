//! Role-based access control: the HTTP filter, the network filter, and the rules they share.

use envoy_types::pb::envoy::config::rbac::v3 as rbac_pb;
use envoy_types::pb::envoy::extensions::filters::http::rbac::v3 as http_pb;
use envoy_types::pb::envoy::extensions::filters::network::rbac::v3 as network_pb;
use envoy_types::pb::envoy::r#type::matcher::v3 as matcher_pb;
use tulle_policy::matcher::StringMatcher;
use tulle_policy::rbac::{Action, MetadataMatcher, Policy, Rbac, Rule, Rules};

use super::super::address::cidr;
use super::super::cx::{Cx, refuse, without_effect};
use super::super::matchers::{header_matcher, metadata_matcher, string_matcher};
use super::super::route_match::path_template;

pub fn http_rbac(cx: &mut Cx, message: http_pb::Rbac) -> Option<Rbac> {
    let http_pb::Rbac {
        rules: enforced,
        rules_stat_prefix,
        matcher,
        shadow_rules,
        shadow_matcher,
        shadow_rules_stat_prefix,
        track_per_rule_stats,
    } = message;
    refuse!(cx; matcher, shadow_matcher);
    without_effect!(cx; rules_stat_prefix);
    if track_per_rule_stats && shadow_rules.is_none() {
        cx.field("track_per_rule_stats", |cx| cx.warn("counts shadow rules only"));
    }
    both(cx, enforced, shadow_rules, &shadow_rules_stat_prefix, track_per_rule_stats)
}

/// The settings of a route; `None` inside means that the filter is off there.
pub fn per_route(cx: &mut Cx, message: http_pb::RbacPerRoute) -> Option<Option<Rbac>> {
    let http_pb::RbacPerRoute { rbac } = message;
    match rbac {
        None => Some(None),
        Some(rbac) => cx.field("rbac", |cx| http_rbac(cx, rbac)).map(Some),
    }
}

/// Decided once, when a connection is accepted and before any byte goes to an upstream.
pub fn network_rbac(cx: &mut Cx, message: network_pb::Rbac) -> Option<Rbac> {
    let network_pb::Rbac {
        rules: enforced,
        matcher,
        shadow_rules,
        shadow_matcher,
        shadow_rules_stat_prefix,
        stat_prefix,
        enforcement_type,
        delay_deny,
    } = message;
    refuse!(cx; matcher, shadow_matcher, delay_deny);
    cx.name("stat_prefix", &stat_prefix)?;
    let kind = cx.enumeration::<network_pb::rbac::EnforcementType>("enforcement_type", enforcement_type)?;
    if kind == network_pb::rbac::EnforcementType::Continuous {
        // Nothing that a rule may ask of a connection changes during it.
        cx.field("enforcement_type", |cx| cx.warn("is the same as ONE_TIME_ON_FIRST_BYTE"));
    }
    // There is no field to ask for it; it costs a connection little.
    both(cx, enforced, shadow_rules, &shadow_rules_stat_prefix, true)
}

fn both(
    cx: &mut Cx,
    enforced: Option<rbac_pb::Rbac>,
    shadow: Option<rbac_pb::Rbac>,
    shadow_prefix: &str,
    counted_by_policy: bool,
) -> Option<Rbac> {
    let enforced = enforced.map(|message| cx.field("rules", |cx| rules(cx, message)));
    let shadow = shadow.map(|message| cx.field("shadow_rules", |cx| rules(cx, message)));
    // A rule set with an error leaves no settings at all: never ones without rules, which would let everything pass.
    Some(Rbac {
        enforced: enforced.map_or(Some(None), |rules| rules.map(Some))?,
        shadow: shadow.map_or(Some(None), |rules| rules.map(Some))?,
        shadow_prefix: cx.intern(shadow_prefix),
        counted_by_policy,
    })
}

fn rules(cx: &mut Cx, message: rbac_pb::Rbac) -> Option<Rules> {
    let rbac_pb::Rbac { action, policies, audit_logging_options } = message;
    without_effect!(cx; audit_logging_options);
    let action = match cx.enumeration::<rbac_pb::rbac::Action>("action", action)? {
        rbac_pb::rbac::Action::Allow => Action::Allow,
        rbac_pb::rbac::Action::Deny => Action::Deny,
        rbac_pb::rbac::Action::Log => Action::Log,
    };
    let mut sorted: Vec<_> = policies.into_iter().collect();
    sorted.sort_by(|left, right| left.0.cmp(&right.0));
    let mut policies = Vec::with_capacity(sorted.len());
    for (name, message) in sorted {
        policies.push(cx.field(&format!("policies[{name}]"), |cx| policy(cx, &name, message))?);
    }
    Some(Rules::new(action, policies))
}

fn policy(cx: &mut Cx, name: &str, message: rbac_pb::Policy) -> Option<Policy> {
    let rbac_pb::Policy { permissions, principals, condition, checked_condition, cel_config } = message;
    refuse!(cx; condition, checked_condition, cel_config);
    let permissions = list(cx, "permissions", permissions, permission)?;
    let principals = list(cx, "principals", principals, principal)?;
    Some(Policy::new(cx.intern(name), permissions, principals))
}

/// All items of a list that may not be empty; `None` when any has an error.
fn list<T>(cx: &mut Cx, name: &str, items: Vec<T>, decode: fn(&mut Cx, T) -> Option<Rule>) -> Option<Vec<Rule>> {
    let wanted = items.len();
    if wanted == 0 {
        cx.error_at(name, "must not be empty");
    }
    let rules = cx.each(name, items, decode);
    (wanted > 0 && rules.len() == wanted).then_some(rules)
}

fn permission(cx: &mut Cx, message: rbac_pb::Permission) -> Option<Rule> {
    use rbac_pb::permission::Rule as Kind;
    let rbac_pb::Permission { rule } = message;
    Some(match cx.required("rule", rule)? {
        Kind::AndRules(set) => Rule::all(cx.field("and_rules", |cx| list(cx, "rules", set.rules, permission))?),
        Kind::OrRules(set) => Rule::any(cx.field("or_rules", |cx| list(cx, "rules", set.rules, permission))?),
        Kind::Any(any) => always(cx, any)?,
        Kind::Header(matcher) => Rule::Header(cx.field("header", |cx| header_matcher(cx, matcher))?),
        Kind::UrlPath(matcher) => Rule::Path(path(cx, matcher)?),
        Kind::DestinationIp(range) => Rule::DestinationIp(cx.field("destination_ip", |cx| cidr(cx, range))?),
        Kind::DestinationPort(port) if port <= 65_535 => Rule::DestinationPort { start: port, end: port + 1 },
        Kind::DestinationPort(port) => {
            cx.error_at("destination_port", format!("{port} is beyond 65535"));
            return None;
        }
        Kind::DestinationPortRange(range) => match (u32::try_from(range.start), u32::try_from(range.end)) {
            (Ok(start), Ok(end)) if start < end && end <= 65_536 => Rule::DestinationPort { start, end },
            _ => {
                cx.error_at("destination_port_range", "must be within 0 to 65536 and not empty");
                return None;
            }
        },
        Kind::Metadata(matcher) => Rule::Metadata(cx.field("metadata", |cx| metadata_matcher(cx, matcher))?),
        Kind::NotRule(rule) => Rule::negated(cx.field("not_rule", |cx| permission(cx, *rule))?),
        Kind::RequestedServerName(matcher) => {
            Rule::ServerName(cx.field("requested_server_name", |cx| string_matcher(cx, matcher))?)
        }
        Kind::Matcher(_) => return unsupported(cx, "matcher"),
        Kind::UriTemplate(extension) => Rule::Template(cx.field("uri_template", |cx| path_template(cx, extension))?),
        Kind::SourcedMetadata(sourced) => Rule::Metadata(sourced_metadata(cx, sourced)?),
    })
}

fn principal(cx: &mut Cx, message: rbac_pb::Principal) -> Option<Rule> {
    use rbac_pb::principal::Identifier as Kind;
    let rbac_pb::Principal { identifier } = message;
    Some(match cx.required("identifier", identifier)? {
        Kind::AndIds(set) => Rule::all(cx.field("and_ids", |cx| list(cx, "ids", set.ids, principal))?),
        Kind::OrIds(set) => Rule::any(cx.field("or_ids", |cx| list(cx, "ids", set.ids, principal))?),
        Kind::Any(any) => always(cx, any)?,
        Kind::Authenticated(rbac_pb::principal::Authenticated { principal_name: None }) => Rule::Authenticated,
        Kind::Authenticated(rbac_pb::principal::Authenticated { principal_name: Some(matcher) }) => {
            Rule::Principal(cx.field("authenticated.principal_name", |cx| string_matcher(cx, matcher))?)
        }
        Kind::SourceIp(range) => Rule::DirectIp(cx.field("source_ip", |cx| cidr(cx, range))?),
        Kind::DirectRemoteIp(range) => Rule::DirectIp(cx.field("direct_remote_ip", |cx| cidr(cx, range))?),
        Kind::RemoteIp(range) => Rule::RemoteIp(cx.field("remote_ip", |cx| cidr(cx, range))?),
        Kind::Header(matcher) => Rule::Header(cx.field("header", |cx| header_matcher(cx, matcher))?),
        Kind::UrlPath(matcher) => Rule::Path(path(cx, matcher)?),
        Kind::Metadata(matcher) => Rule::Metadata(cx.field("metadata", |cx| metadata_matcher(cx, matcher))?),
        Kind::FilterState(_) => return unsupported(cx, "filter_state"),
        Kind::NotId(id) => Rule::negated(cx.field("not_id", |cx| principal(cx, *id))?),
        Kind::SourcedMetadata(sourced) => Rule::Metadata(sourced_metadata(cx, sourced)?),
        Kind::Custom(_) => return unsupported(cx, "custom"),
    })
}

fn unsupported(cx: &mut Cx, name: &str) -> Option<Rule> {
    cx.refuse(name);
    None
}

/// `any: false` says nothing; Envoy refuses it too.
fn always(cx: &mut Cx, any: bool) -> Option<Rule> {
    if !any {
        cx.error_at("any", "must be true");
    }
    any.then_some(Rule::Always)
}

fn path(cx: &mut Cx, message: matcher_pb::PathMatcher) -> Option<StringMatcher> {
    let matcher_pb::PathMatcher { rule } = message;
    cx.field("url_path", |cx| {
        let matcher_pb::path_matcher::Rule::Path(matcher) = cx.required("path", rule)?;
        cx.field("path", |cx| string_matcher(cx, matcher))
    })
}

fn sourced_metadata(cx: &mut Cx, message: rbac_pb::SourcedMetadata) -> Option<MetadataMatcher> {
    let rbac_pb::SourcedMetadata { metadata_matcher: matcher, metadata_source } = message;
    cx.field("sourced_metadata", |cx| {
        if cx.enumeration::<rbac_pb::MetadataSource>("metadata_source", metadata_source)?
            != rbac_pb::MetadataSource::Dynamic
        {
            cx.error_at("metadata_source", "only DYNAMIC is supported");
            return None;
        }
        let matcher = cx.required("metadata_matcher", matcher)?;
        cx.field("metadata_matcher", |cx| metadata_matcher(cx, matcher))
    })
}
