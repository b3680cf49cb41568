//! The global rate limit: what routes say of it, and what clients are told of the limits that a service counted.

use std::fmt::Write as _;
use std::time::Duration;

use tulle_core::Str;

use crate::descriptors::{HostSlots, RateLimitSlot};

/// What a route says of the filter.
#[derive(Clone, Debug, Default)]
pub struct RateLimiterOverride {
    pub host_slots: HostSlots,
    /// When there are any, neither the filter's nor those of routes and virtual hosts count.
    pub slots: Box<[RateLimitSlot]>,
    pub domain: Option<Str>,
}

/// How one descriptor stands, by the service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    pub over: bool,
    pub limit: Option<Limit>,
    pub remaining: u32,
    pub reset: Duration,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limit {
    pub requests: u32,
    /// What they are counted over; `None` when the service does not say.
    pub window: Option<Duration>,
    pub name: String,
}

/// The values of `x-ratelimit-limit`, `-remaining` and `-reset` (draft-ietf-httpapi-ratelimit-headers-03): of the limit
/// that is nearest to being reached, with all of them as the policy. `None` where nothing has a limit.
pub fn x_ratelimit(standings: &[Standing]) -> Option<[String; 3]> {
    let limited = || standings.iter().filter_map(|each| Some((each, each.limit.as_ref()?)));
    let (nearest, limit) = limited().min_by_key(|(each, _)| each.remaining)?;
    let mut policy = limit.requests.to_string();
    for (_, limit) in limited() {
        let Some(window) = limit.window else { continue };
        let _infallible = write!(policy, ", {};w={}", limit.requests, window.as_secs());
        if !limit.name.is_empty() {
            let _infallible = write!(policy, ";name=\"{}\"", limit.name);
        }
    }
    Some([policy, nearest.remaining.to_string(), nearest.reset.as_secs().to_string()])
}

/// When to come back, in whole seconds and at least one: when the last of the limits that are reached is free again.
pub fn come_back(standings: &[Standing]) -> Option<u64> {
    standings.iter().filter(|each| each.over).map(|each| each.reset.as_secs().max(1)).max()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn standing(over: bool, requests: Option<u32>, remaining: u32, reset: u64) -> Standing {
        let limit = requests.map(|requests| {
            let name = if requests > 50 { "per-ip".to_owned() } else { String::new() };
            Limit { requests, window: (requests != 7).then_some(Duration::from_secs(60)), name }
        });
        Standing { over, limit, remaining, reset: Duration::from_secs(reset) }
    }

    #[test]
    fn the_limit_that_is_nearest_is_told() {
        assert_eq!(x_ratelimit(&[standing(false, None, 0, 5)]), None);
        let all = [standing(false, Some(100), 40, 3), standing(false, Some(10), 2, 7), standing(false, Some(7), 5, 1)];
        let [limit, remaining, reset] = x_ratelimit(&all).unwrap();
        assert_eq!(limit, "10, 100;w=60;name=\"per-ip\", 10;w=60");
        assert_eq!((&*remaining, &*reset), ("2", "7"));
    }

    #[test]
    fn come_back_when_the_last_is_free() {
        assert_eq!(come_back(&[standing(false, Some(1), 0, 9)]), None);
        assert_eq!(come_back(&[standing(true, None, 0, 0), standing(false, None, 0, 9)]), Some(1));
        assert_eq!(come_back(&[standing(true, None, 0, 4), standing(true, None, 0, 3)]), Some(4));
    }
}
