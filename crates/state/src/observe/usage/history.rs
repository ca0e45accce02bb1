//! [`UsageHistory`]: the usage of one connection, agent or organisation by hour for two days and by day for 30. It is
//! one row of the store, whose size is therefore bounded.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::exchange_use::{ExchangeUse, Remaining};
use super::latency::LatencyCounts;
use keyward_base::id::{AgentId, ConnectionId, OrgId};

/// Identifies a history.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct UsageKey {
    pub org: OrgId,
    /// The counted resource of the organisation.
    pub of: UsageOf,
}

/// A resource of an organisation with a history.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum UsageOf {
    /// All agents of the organisation together.
    Org,
    Agent(AgentId),
    Connection(ConnectionId),
}

/// The length of the periods of a series.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum UsageStep {
    /// Only in memory, and only of an organisation.
    Minute,
    Hour,
    /// Days of UTC.
    Day,
}

/// The counts of a period.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default)]
pub struct UsageSum {
    #[serde(skip_serializing_if = "is_zero")]
    pub requests: u64,
    /// Requests that Keyward refused.
    #[serde(skip_serializing_if = "is_zero")]
    pub refused: u64,
    /// Answers of upstreams with 400 to 499, without 429.
    #[serde(skip_serializing_if = "is_zero")]
    pub client_errors: u64,
    /// Answers of upstreams with 429.
    #[serde(skip_serializing_if = "is_zero")]
    pub rate_limited: u64,
    /// Answers of upstreams with 500 or more.
    #[serde(skip_serializing_if = "is_zero")]
    pub server_errors: u64,
    /// Requests without a whole answer of the upstream: unreachable, TLS, timeout, malformed, cut.
    #[serde(skip_serializing_if = "is_zero")]
    pub upstream_failures: u64,
    /// Body bytes from agents.
    #[serde(skip_serializing_if = "is_zero")]
    pub bytes_in: u64,
    /// Body bytes to agents.
    #[serde(skip_serializing_if = "is_zero")]
    pub bytes_out: u64,
    /// Times until answers began.
    #[serde(skip_serializing_if = "LatencyCounts::is_empty")]
    pub latency: LatencyCounts,
    /// The provider's rate limit, as last reported.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<Remaining>,
}

/// A period and its sum.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct UsagePeriod {
    /// When it begins.
    pub at: Timestamp,
    /// The counts.
    #[serde(flatten)]
    pub sum: UsageSum,
}

/// The periods of one [`UsageKey`], oldest first. Periods without requests are absent.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct UsageHistory {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    hours: Vec<UsagePeriod>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    days: Vec<UsagePeriod>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(count: &u64) -> bool {
    *count == 0
}

impl UsageKey {
    /// The key's id among those of its organisation.
    pub fn id(&self) -> &str {
        match &self.of {
            UsageOf::Org => "org",
            UsageOf::Agent(id) => id.as_str(),
            UsageOf::Connection(id) => id.as_str(),
        }
    }

    /// Parses what [`UsageKey::id`] returns.
    pub fn parse(org: &OrgId, id: &str) -> Option<Self> {
        let agent = || AgentId::parse(id).ok().map(UsageOf::Agent);
        let connection = || ConnectionId::parse(id).ok().map(UsageOf::Connection);
        let of = match id {
            "org" => UsageOf::Org,
            _ => agent().or_else(connection)?,
        };
        Some(Self { org: org.clone(), of })
    }
}

impl UsageStep {
    /// The length in seconds.
    pub const fn seconds(self) -> i64 {
        match self {
            Self::Minute => 60,
            Self::Hour => 3_600,
            Self::Day => 86_400,
        }
    }

    /// The number of kept periods, including the current one.
    pub const fn kept(self) -> usize {
        match self {
            Self::Minute => 60,
            Self::Hour => 48,
            Self::Day => 30,
        }
    }

    /// The start of the period that contains `at`.
    pub fn start(self, at: Timestamp) -> Timestamp {
        let second = at.as_second();
        let start = second - second.rem_euclid(self.seconds());
        Timestamp::from_second(start).unwrap_or(Timestamp::MIN)
    }

    /// The starts of the last `count` periods, oldest first; the last one is the current period.
    pub fn starts(self, now: Timestamp, count: usize) -> impl Iterator<Item = Timestamp> {
        let last = self.start(now);
        (0..i64::try_from(count).unwrap_or(0)).rev().map(move |ago| self.before(last, ago))
    }

    fn before(self, start: Timestamp, periods: i64) -> Timestamp {
        let ago = SignedDuration::from_secs(self.seconds() * periods);
        start.checked_sub(ago).unwrap_or(Timestamp::MIN)
    }

    /// Adds a sum to the period of `at`.
    pub(super) fn record(self, periods: &mut Vec<UsagePeriod>, at: Timestamp, sum: &UsageSum) {
        let at = self.start(at);
        match periods.binary_search_by_key(&at, |period| period.at) {
            Ok(found) => periods[found].sum.add(sum),
            Err(place) => periods.insert(place, UsagePeriod { at, sum: sum.clone() }),
        }
    }

    /// Drops periods that are too old, or in the future because the clock was set back.
    pub(super) fn trim(self, periods: &mut Vec<UsagePeriod>, now: Timestamp) {
        let kept = i64::try_from(self.kept()).unwrap_or(i64::MAX);
        let oldest = self.before(self.start(now), kept - 1);
        periods.retain(|period| oldest <= period.at && period.at <= now);
    }
}

impl UsageSum {
    /// Counts an exchange.
    pub fn count(&mut self, used: &ExchangeUse<'_>) {
        self.requests += 1;
        self.bytes_in += used.bytes.0;
        self.bytes_out += used.bytes.1;
        let class = match (used.code, used.status) {
            (Some(code), _) if code.is_upstream_failure() => Some(&mut self.upstream_failures),
            (Some(_), _) => Some(&mut self.refused),
            (None, _) if used.aborted => Some(&mut self.upstream_failures),
            (None, Some(429)) => Some(&mut self.rate_limited),
            (None, Some(500..)) => Some(&mut self.server_errors),
            (None, Some(400..)) => Some(&mut self.client_errors),
            (None, _) => None,
        };
        if let Some(count) = class {
            *count += 1;
        }
        if let Some(waited) = used.waited {
            self.latency.count(waited);
        }
        self.limit = used.limit.or(self.limit);
    }

    /// Adds another sum.
    pub fn add(&mut self, other: &Self) {
        self.requests += other.requests;
        self.refused += other.refused;
        self.client_errors += other.client_errors;
        self.rate_limited += other.rate_limited;
        self.server_errors += other.server_errors;
        self.upstream_failures += other.upstream_failures;
        self.bytes_in += other.bytes_in;
        self.bytes_out += other.bytes_out;
        self.latency.add(&other.latency);
        self.limit = Remaining::newer(self.limit, other.limit);
    }
}

impl UsageHistory {
    /// Adds a sum to the hour and the day of `at`.
    pub fn record(&mut self, at: Timestamp, sum: &UsageSum) {
        UsageStep::Hour.record(&mut self.hours, at, sum);
        UsageStep::Day.record(&mut self.days, at, sum);
    }

    /// Adds another history, and drops periods that are too old.
    pub fn merge(&mut self, other: &Self, now: Timestamp) {
        for (step, own, other) in [
            (UsageStep::Hour, &mut self.hours, &other.hours),
            (UsageStep::Day, &mut self.days, &other.days),
        ] {
            other.iter().for_each(|period| step.record(own, period.at, &period.sum));
            step.trim(own, now);
        }
    }

    /// The periods of this length; none for minutes.
    pub fn periods(self, step: UsageStep) -> Vec<UsagePeriod> {
        match step {
            UsageStep::Minute => Vec::new(),
            UsageStep::Hour => self.hours,
            UsageStep::Day => self.days,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use keyward_base::codes::Code;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn requests(requests: u64) -> UsageSum {
        UsageSum { requests, ..UsageSum::default() }
    }

    fn used(status: Option<u16>, code: Option<Code>, aborted: bool) -> ExchangeUse<'static> {
        ExchangeUse { status, code, aborted, ..ExchangeUse::begun(Timestamp::UNIX_EPOCH) }
    }

    #[test]
    fn each_failure_is_counted_in_one_class() {
        let mut sum = UsageSum::default();
        for (status, code, aborted) in [
            (Some(200), None, false),
            (Some(399), None, false),
            (Some(400), None, false),
            (Some(429), None, false),
            (Some(500), None, false),
            (Some(200), None, true),
            (Some(502), Some(Code::UpstreamUnreachable), false),
            (Some(429), Some(Code::RateLimited), false),
            (Some(200), Some(Code::SecretEchoed), true),
            (None, None, false),
        ] {
            sum.count(&used(status, code, aborted));
        }
        let counts = [sum.client_errors, sum.rate_limited, sum.server_errors];
        assert_eq!((sum.requests, counts), (10, [1, 1, 1]));
        assert_eq!((sum.upstream_failures, sum.refused), (2, 2));
    }

    #[test]
    fn a_history_keeps_48_hours_and_30_days_and_no_future_periods() {
        let (mut history, now) = (UsageHistory::default(), at("2026-03-31T12:30:00Z"));
        for hour in 0..24 * 90 {
            let start = now.checked_sub(SignedDuration::from_hours(hour)).unwrap();
            let mut one = UsageHistory::default();
            one.record(start, &requests(1));
            history.merge(&one, now);
        }
        let mut future = UsageHistory::default();
        future.record(at("2030-01-01T00:00:00Z"), &requests(1));
        history.merge(&future, now);
        let hours = history.clone().periods(UsageStep::Hour);
        assert_eq!((hours.len(), hours[47].at), (48, at("2026-03-31T12:00:00Z")));
        let days = history.periods(UsageStep::Day);
        assert_eq!((days.len(), days[0].at), (30, at("2026-03-02T00:00:00Z")));
        let total: u64 = days.iter().map(|day| day.sum.requests).sum();
        assert_eq!(total, 29 * 24 + 13);
    }

    #[test]
    fn sums_of_the_same_hour_are_added() {
        let mut history = UsageHistory::default();
        let (begin, end) = (at("2026-03-01T10:00:00Z"), at("2026-03-01T10:59:59Z"));
        history.record(begin, &requests(1));
        let mut more = UsageHistory::default();
        more.record(end, &requests(2));
        history.merge(&more, end);
        let hours = history.periods(UsageStep::Hour);
        assert_eq!((hours.len(), hours[0].at, hours[0].sum.requests), (1, begin, 3));
    }

    #[test]
    fn the_last_period_of_a_series_is_the_present_one() {
        let starts: Vec<_> = UsageStep::Day.starts(at("2026-03-01T00:00:01Z"), 2).collect();
        assert_eq!(starts, [at("2026-02-28T00:00:00Z"), at("2026-03-01T00:00:00Z")]);
    }

    #[test]
    fn keys_are_read_as_they_are_written() {
        let (agent, connection) = (AgentId::random(), ConnectionId::random());
        for of in [UsageOf::Org, UsageOf::Agent(agent), UsageOf::Connection(connection)] {
            let key = UsageKey { org: OrgId::default_org(), of };
            assert_eq!(UsageKey::parse(&key.org, key.id()), Some(key));
        }
        assert_eq!(UsageKey::parse(&OrgId::default_org(), "usr_1"), None);
    }
}
