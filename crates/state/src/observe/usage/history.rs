//! [`UsageHistory`]: the usage of one connection, agent or organisation by hour for two days and by day for 30. It is
//! one row of the store, whose size is therefore bounded. Its parts are the counted properties of an exchange
//! ([`ExchangeUse`]), and a histogram of the times until answers began, in buckets of powers of two of milliseconds
//! ([`LatencyCounts`]). [`Unsaved`] is what was collected and is not stored yet.

use std::collections::HashMap;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use keyward_base::codes::Code;
use keyward_base::id::{AgentId, ConnectionId, OrgId, TokenId};
use keyward_rules::rate_limit::StatedLimit;

/// Buckets: up to over 9 hours.
const BUCKETS: usize = 26;

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

/// The counted properties of one exchange.
#[derive(Debug, Default)]
pub struct ExchangeUse<'a> {
    /// The organisation of the agent or person.
    pub org: Option<&'a OrgId>,
    /// The permitted connection.
    pub connection: Option<&'a ConnectionId>,
    /// The agent; `None` for a person.
    pub agent: Option<&'a AgentId>,
    /// The token used for authentication.
    pub token: Option<&'a TokenId>,
    /// When it began.
    pub at: Timestamp,
    /// The status of the response.
    pub status: Option<u16>,
    /// The code, if Keyward refused.
    pub code: Option<Code>,
    /// Whether it ended before the end of the response, without a refusal.
    pub aborted: bool,
    /// Time until the upstream's response began.
    pub waited: Option<Duration>,
    /// Body bytes from the agent, and to it.
    pub bytes: (u64, u64),
    /// The provider's rate limit, from the response.
    pub limit: Option<Remaining>,
}

/// A provider's rate limit, as its response reports it.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Remaining {
    /// What it reports.
    #[serde(flatten)]
    pub stated: StatedLimit,
    /// When it was reported.
    pub at: Timestamp,
}

impl ExchangeUse<'_> {
    /// An exchange with only its start time.
    #[cfg(test)]
    pub(crate) fn begun(at: Timestamp) -> Self {
        Self { at, ..Self::default() }
    }
}

impl Remaining {
    /// The limit that was reported last.
    pub(super) fn newer(own: Option<Self>, other: Option<Self>) -> Option<Self> {
        let at = |it: Option<Self>| it.map(|it| it.at);
        if at(other) > at(own) { other } else { own }
    }
}

/// How many answers began within which time.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct LatencyCounts([u64; BUCKETS]);

impl LatencyCounts {
    /// Counts an answer.
    pub fn count(&mut self, waited: Duration) {
        self.0[bucket(waited)] += 1;
    }

    /// Adds the counts of another period or thread.
    pub fn add(&mut self, other: &Self) {
        for (sum, count) in self.0.iter_mut().zip(other.0) {
            *sum += count;
        }
    }

    /// The time within which `percent` of the answers began, rounded up to a power of two of milliseconds.
    /// `None` without answers.
    pub fn within(&self, percent: u64) -> Option<Duration> {
        let all: u64 = self.0.iter().sum();
        let wanted = (all * percent).div_ceil(100).max(1);
        let mut seen = 0;
        let found = self.0.iter().position(|count| {
            seen += count;
            seen >= wanted
        });
        found.map(|bucket| Duration::from_millis(1 << bucket))
    }

    /// Whether nothing was counted.
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|count| *count == 0)
    }
}

/// The bucket: the first power of two of milliseconds that is not less.
fn bucket(waited: Duration) -> usize {
    let begun = u64::from(waited.subsec_micros().div_ceil(1_000));
    let ms = waited.as_secs().saturating_mul(1_000).saturating_add(begun).max(1);
    let power = ms.checked_next_power_of_two().map_or(BUCKETS, |it| it.trailing_zeros() as usize);
    power.min(BUCKETS - 1)
}

/// A list of counts without the empty buckets at its end.
impl Serialize for LatencyCounts {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        let used = self.0.iter().rposition(|count| *count > 0).map_or(0, |last| last + 1);
        s.collect_seq(&self.0[..used])
    }
}

impl<'de> Deserialize<'de> for LatencyCounts {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let mut counts = Self::default();
        for (bucket, count) in Vec::<u64>::deserialize(d)?.into_iter().enumerate() {
            counts.0[bucket.min(BUCKETS - 1)] += count;
        }
        Ok(counts)
    }
}

/// An addition to a stored history.
#[derive(Debug)]
pub(super) struct Unsaved {
    /// Start of the period of the first unsaved count.
    pub(super) since: Timestamp,
    pub(super) history: UsageHistory,
}

/// Adds the counts of the period that begins at `at`.
pub(super) fn add(
    unsaved: &mut HashMap<UsageKey, Unsaved>,
    key: UsageKey,
    at: Timestamp,
    sum: &UsageSum,
) {
    let new = || Unsaved { since: at, history: UsageHistory::default() };
    let history = &mut unsaved.entry(key).or_insert_with(new).history;
    let mut more = UsageHistory::default();
    more.record(at, sum);
    // Also drops old periods, so that the memory stays bounded while the store fails for days.
    history.merge(&more, at);
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

    #[test]
    fn times_are_rounded_up_to_the_next_power_of_two() {
        let mut counts = LatencyCounts::default();
        assert_eq!(counts.within(50), None);
        for ms in [0, 1, 3, 900] {
            counts.count(Duration::from_millis(ms));
        }
        assert_eq!(counts.within(50), Some(Duration::from_millis(1)));
        assert_eq!(counts.within(75), Some(Duration::from_millis(4)));
        assert_eq!(counts.within(99), Some(Duration::from_millis(1024)));
        assert_eq!(bucket(Duration::MAX), BUCKETS - 1);
    }

    #[test]
    fn a_partial_millisecond_is_rounded_up_and_a_partial_microsecond_is_dropped() {
        for (nanos, expected) in [
            (1_000_999, 0),
            (1_001_000, 1),
            (1_024_000_999, 10),
            (1_024_001_000, 11),
            (2_048_000_000, 11),
        ] {
            assert_eq!(bucket(Duration::from_nanos(nanos)), expected, "{nanos}");
        }
    }

    #[test]
    fn the_stored_list_ends_with_the_last_bucket_in_use() {
        let mut counts = LatencyCounts::default();
        assert_eq!(serde_json::to_string(&counts).unwrap(), "[]");
        counts.count(Duration::from_millis(4));
        assert_eq!(serde_json::to_string(&counts).unwrap(), "[0,0,1]");
        assert_eq!(serde_json::from_str::<LatencyCounts>("[0,0,1]").unwrap(), counts);
    }
}
