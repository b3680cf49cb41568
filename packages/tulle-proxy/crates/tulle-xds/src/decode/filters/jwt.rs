//! Token checks: providers with their keys, and which requests must show which tokens.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use envoy_types::pb::envoy::config::core::v3 as core_pb;
use envoy_types::pb::envoy::extensions::filters::http::jwt_authn::v3 as jwt_pb;
use tulle_config::{TokenFilter, TokenRule};
use tulle_core::Str;
use tulle_policy::FilterOverride;
use tulle_token::provider::{ClaimHeader, Lifetime, Output};
use tulle_token::requirement::Providers;
use tulle_token::{Audiences, Jwks, KeySource, Provider, RemoteKeys, Requirement, Wanted};

use super::super::common::{content, optional, uint};
use super::super::cx::{Cx, refuse, without_effect};
use super::super::matchers::string_matcher;
use super::super::route_match::route_match;
use super::uri::server;

/// Envoy's defaults.
const CACHED: Duration = Duration::from_secs(600);
const AFTER_FAILURE: Duration = Duration::from_secs(1);
const CLOCK_SKEW: u32 = 60;

pub fn token_filter(cx: &mut Cx, message: jwt_pb::JwtAuthentication) -> Option<TokenFilter> {
    let jwt_pb::JwtAuthentication {
        providers: written,
        rules,
        filter_state_rules,
        bypass_cors_preflight,
        requirement_map,
        strip_failure_response,
        stat_prefix,
    } = message;
    refuse!(cx; filter_state_rules);
    without_effect!(cx; stat_prefix);
    let mut providers = Providers::new();
    let mut sorted: Vec<_> = written.into_iter().collect();
    sorted.sort_by(|left, right| left.0.cmp(&right.0));
    for (name, message) in sorted {
        let made = cx.field(&format!("providers[{name}]"), |cx| provider(cx, &name, message))?;
        providers.insert(made.name.clone(), Arc::new(made));
    }
    let named = named(cx, requirement_map, &providers)?;
    let wanted = rules.len();
    let rules = cx.each("rules", rules, |cx, message| rule(cx, message, &providers, &named));
    (rules.len() == wanted).then(|| TokenFilter {
        providers: providers.values().cloned().collect(),
        rules: rules.into(),
        named,
        bypass_cors_preflight,
        strip_failure_response,
    })
}

pub fn per_route(cx: &mut Cx, message: jwt_pb::PerRouteConfig) -> Option<FilterOverride> {
    use jwt_pb::per_route_config::RequirementSpecifier;
    let jwt_pb::PerRouteConfig { requirement_specifier } = message;
    Some(match cx.required("requirement_specifier", requirement_specifier)? {
        RequirementSpecifier::Disabled(true) => FilterOverride::Off,
        RequirementSpecifier::Disabled(false) => {
            cx.error_at("disabled", "must be true");
            return None;
        }
        RequirementSpecifier::RequirementName(name) => {
            FilterOverride::TokenRequirement(cx.name("requirement_name", &name)?)
        }
    })
}

type Named = BTreeMap<Str, Arc<Requirement>>;

fn named(
    cx: &mut Cx,
    written: std::collections::HashMap<String, jwt_pb::JwtRequirement>,
    providers: &Providers,
) -> Option<Named> {
    let mut sorted: Vec<_> = written.into_iter().collect();
    sorted.sort_by(|left, right| left.0.cmp(&right.0));
    let mut made = Named::new();
    for (name, message) in sorted {
        let found = cx.field(&format!("requirement_map[{name}]"), |cx| requirement(cx, message, providers))?;
        made.insert(cx.intern(&name), found);
    }
    Some(made)
}

fn rule(cx: &mut Cx, message: jwt_pb::RequirementRule, providers: &Providers, named: &Named) -> Option<TokenRule> {
    use jwt_pb::requirement_rule::RequirementType;
    let jwt_pb::RequirementRule { r#match, requirement_type } = message;
    let matches = cx.required("match", r#match).and_then(|m| cx.field("match", |cx| route_match(cx, m)));
    let requirement = match requirement_type {
        None => Arc::new(Requirement::Nothing),
        Some(RequirementType::Requires(message)) => cx.field("requires", |cx| requirement(cx, message, providers))?,
        Some(RequirementType::RequirementName(name)) => {
            let found = named.get(&*name).cloned();
            if found.is_none() {
                cx.error_at("requirement_name", format!("{name:?} is not in the requirement_map"));
            }
            found?
        }
    };
    Some(TokenRule { matches: matches?, requirement })
}

fn requirement(cx: &mut Cx, message: jwt_pb::JwtRequirement, providers: &Providers) -> Option<Arc<Requirement>> {
    let wanted = wanted(cx, message)?;
    match Requirement::new(&wanted, providers) {
        Ok(made) => Some(Arc::new(made)),
        Err(unknown) => {
            cx.error(unknown.to_string());
            None
        }
    }
}

fn wanted(cx: &mut Cx, message: jwt_pb::JwtRequirement) -> Option<Wanted> {
    use jwt_pb::jwt_requirement::RequiresType as Type;
    let jwt_pb::JwtRequirement { requires_type } = message;
    Some(match requires_type {
        None => Wanted::Nothing,
        Some(Type::ProviderName(name)) => Wanted::Provider { name: cx.name("provider_name", &name)?, audiences: None },
        Some(Type::ProviderAndAudiences(jwt_pb::ProviderWithAudiences { provider_name, audiences })) => {
            let audiences = Audiences::new(audiences);
            let name = cx.name("provider_and_audiences.provider_name", &provider_name)?;
            Wanted::Provider { name, audiences: (!audiences.is_empty()).then_some(audiences) }
        }
        Some(Type::RequiresAny(jwt_pb::JwtRequirementOrList { requirements })) => {
            Wanted::Any(cx.field("requires_any", |cx| several(cx, requirements))?)
        }
        Some(Type::RequiresAll(jwt_pb::JwtRequirementAndList { requirements })) => {
            Wanted::All(cx.field("requires_all", |cx| several(cx, requirements))?)
        }
        Some(Type::AllowMissing(_)) => Wanted::AllowMissing,
        Some(Type::AllowMissingOrFailed(_)) => Wanted::AllowMissingOrFailed,
        Some(Type::ExtractOnlyWithoutValidation(_)) => {
            cx.error_at("extract_only_without_validation", "is not supported: claims are shown only once verified");
            return None;
        }
    })
}

fn several(cx: &mut Cx, messages: Vec<jwt_pb::JwtRequirement>) -> Option<Vec<Wanted>> {
    let count = messages.len();
    if count < 2 {
        cx.error_at("requirements", "must have at least two items");
    }
    let made = cx.each("requirements", messages, wanted);
    (count >= 2 && made.len() == count).then_some(made)
}

fn provider(cx: &mut Cx, name: &str, message: jwt_pb::JwtProvider) -> Option<Provider> {
    let output = output(cx, &message);
    let jwt_pb::JwtProvider {
        issuer,
        audiences,
        subjects,
        require_expiration,
        max_lifetime,
        from_headers,
        from_params,
        from_cookies,
        failed_status_in_metadata,
        clock_skew_seconds,
        jwt_cache_config,
        jwks_source_specifier,
        // Read by `output`.
        forward: _,
        forward_payload_header: _,
        pad_forward_payload_header: _,
        payload_in_metadata: _,
        normalize_payload_in_metadata: _,
        header_in_metadata: _,
        claim_to_headers: _,
        clear_route_cache: _,
    } = message;
    refuse!(cx; failed_status_in_metadata);
    // There is always a cache, of a size of its own.
    without_effect!(cx; jwt_cache_config);
    let lifetime = match cx.duration("max_lifetime", max_lifetime) {
        Some(longest) => Lifetime::LessThan(longest),
        None if require_expiration => Lifetime::Limited,
        None => Lifetime::Any,
    };
    let subjects = match subjects {
        Some(matcher) => Some(cx.field("subjects", |cx| string_matcher(cx, matcher))?),
        None => None,
    };
    let keys = cx.required("jwks_source_specifier", jwks_source_specifier).and_then(|source| keys(cx, source));
    let skew = if clock_skew_seconds == 0 { CLOCK_SKEW } else { clock_skew_seconds };
    Some(Provider {
        name: cx.intern(name),
        issuer: optional(cx, &issuer),
        audiences: Audiences::new(audiences),
        subjects,
        lifetime,
        clock_skew: Duration::from_secs(u64::from(skew)),
        from_headers: cx.each("from_headers", from_headers, place).into(),
        from_params: cx.each("from_params", from_params, |cx, name| cx.name("", &name)).into(),
        from_cookies: cx.each("from_cookies", from_cookies, |cx, name| cx.name("", &name)).into(),
        output: output?,
        keys: keys?,
    })
}

fn place(cx: &mut Cx, message: jwt_pb::JwtHeader) -> Option<(Str, Str)> {
    let jwt_pb::JwtHeader { name, value_prefix } = message;
    Some((cx.name("name", &name.to_ascii_lowercase())?, cx.intern(&value_prefix)))
}

fn output(cx: &mut Cx, message: &jwt_pb::JwtProvider) -> Option<Output> {
    let normalize = message.normalize_payload_in_metadata.clone().unwrap_or_default();
    let claims = message.claim_to_headers.clone();
    Some(Output {
        forward: message.forward,
        payload_header: optional(cx, &message.forward_payload_header.to_ascii_lowercase()),
        pad_payload: message.pad_forward_payload_header,
        payload_key: optional(cx, &message.payload_in_metadata),
        header_key: optional(cx, &message.header_in_metadata),
        space_delimited: normalize.space_delimited_claims.iter().map(|claim| cx.intern(claim)).collect(),
        claim_headers: cx.each("claim_to_headers", claims, claim_header).into(),
        clear_route_cache: message.clear_route_cache,
    })
}

/// A claim is named by the keys that lead to it, or by one name in which a dot is a step.
fn claim_header(cx: &mut Cx, message: jwt_pb::JwtClaimToHeader) -> Option<ClaimHeader> {
    let jwt_pb::JwtClaimToHeader { header_name, claim_name, claim_path } = message;
    let header = cx.name("header_name", &header_name.to_ascii_lowercase())?;
    let path: Box<[Str]> = if claim_path.is_empty() {
        cx.name("claim_name", &claim_name)?.split('.').map(Str::from).collect()
    } else {
        cx.each("claim_path", claim_path, |cx, segment| cx.name("key", &segment.key)).into()
    };
    Some(ClaimHeader { header, path })
}

fn keys(cx: &mut Cx, source: jwt_pb::jwt_provider::JwksSourceSpecifier) -> Option<KeySource> {
    use jwt_pb::jwt_provider::JwksSourceSpecifier as Source;
    match source {
        Source::LocalJwks(source) => cx.field("local_jwks", |cx| local(cx, source)).map(KeySource::Local),
        Source::RemoteJwks(message) => {
            cx.field("remote_jwks", |cx| remote(cx, message)).map(|keys| KeySource::Remote(Arc::new(keys)))
        }
    }
}

fn local(cx: &mut Cx, source: core_pb::DataSource) -> Option<Arc<Jwks>> {
    let text = content(cx, source)?;
    match Jwks::parse(&text) {
        Ok(keys) => Some(Arc::new(keys)),
        Err(error) => {
            cx.error(error.to_string());
            None
        }
    }
}

fn remote(cx: &mut Cx, message: jwt_pb::RemoteJwks) -> Option<RemoteKeys> {
    let jwt_pb::RemoteJwks { http_uri, cache_duration, async_fetch, retry_policy } = message;
    let server = cx.required("http_uri", http_uri).and_then(|uri| cx.field("http_uri", |cx| server(cx, uri)))?;
    // Keys are always fetched ahead; a listener serves at once, and requests with tokens wait for the first fetch.
    let jwt_pb::JwksAsyncFetch { fast_listener: _, failed_refetch_duration } = async_fetch.unwrap_or_default();
    let retry = cx.field("async_fetch", |cx| cx.duration("failed_refetch_duration", failed_refetch_duration));
    let retries = retry_policy.map_or(0, |policy| uint(policy.num_retries).unwrap_or(1));
    Some(RemoteKeys {
        authority: server.authority,
        path: server.path,
        cluster: server.cluster,
        timeout: server.timeout,
        cache: cx.duration("cache_duration", cache_duration).unwrap_or(CACHED).max(AFTER_FAILURE),
        retry: retry.unwrap_or(AFTER_FAILURE).max(Duration::from_millis(100)),
        retries: retries.min(10),
    })
}
