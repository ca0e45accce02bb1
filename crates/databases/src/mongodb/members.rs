//! Finds the server of a replica set for a session, and logs in there: at the primary, or at any server if no primary
//! is known. If a server does not answer within 500 ms, the next one is tried in parallel.

use std::slice::from_ref;
use std::sync::Arc;
use std::time::Duration;

use bson::{RawDocument, RawDocumentBuf};
use futures_util::stream::{FuturesUnordered, StreamExt};

use super::login::{AUTH_SOURCE, MongoLogin};
use crate::login::{ServerError, in_time};
use crate::refused::Refused;
use crate::upstream::Upstream;
use keyward_base::codes::Code;
use keyward_base::database::Seeds;
use keyward_base::host::{Scheme, Target};
use keyward_proxy::{FailedAttempt, Gateway, SeedListError, ServiceExchange};
use keyward_rules::policy::DatabasePermit;

/// How long a server may take before the next one is tried in parallel. Drivers wait about as long on a slow network.
const NEXT_ATTEMPT_AFTER: Duration = Duration::from_millis(500);

/// The servers that a session asks at most. A replica set has no more members.
/// <https://www.mongodb.com/docs/manual/reference/limits/#mongodb-limit-Number-of-Members-of-a-Replica-Set>
const ATTEMPTS_MAX: usize = 50;

/// A server that has answered.
struct Member {
    upstream: Upstream,
    /// Its answer to `hello`.
    hello: RawDocumentBuf,
    permit: DatabasePermit,
}

/// Why a server has not answered.
enum MemberFailure {
    /// It cannot be reached, or a rule denies it.
    Unreached(FailedAttempt),
    Failed(ServerError),
}

/// The servers and options, from DNS or from the connection.
struct ServerList {
    /// In the order of asking.
    permits: Vec<DatabasePermit>,
    /// The database that knows the user, if DNS says it.
    auth_source: Option<String>,
    /// Whether the greeting names a load balancer.
    load_balanced: bool,
}

impl ServerList {
    /// The servers of a permit that no rule denies.
    ///
    /// # Errors
    /// When DNS lists none, or one in another domain, or rules deny all of them.
    async fn of(exchange: &mut ServiceExchange, permit: &DatabasePermit) -> Result<Self, Refused> {
        let endpoint = permit.endpoint();
        let (targets, auth_source, load_balanced) = match &endpoint.seeds {
            Seeds::Listed(more) => ([from_ref(&endpoint.target), &more[..]].concat(), None, false),
            Seeds::Srv => {
                let list = exchange.seed_list(permit).await.map_err(|error| unlisted(&error))?;
                (list.servers, list.auth_source, list.load_balanced)
            }
        };
        let (mut permits, mut denied) = (Vec::new(), None);
        for target in targets {
            match exchange.permit_member(permit, target) {
                // As drivers do: a list with one server elsewhere is not used at all.
                Ok(member) => permits.push(member.ok_or(ServerError::ListedElsewhere)?),
                Err(failed) => denied = denied.or(Some(failed)),
            }
        }
        match denied {
            Some(denied) if permits.is_empty() => Err(exchange.refused_attempt(&denied).into()),
            _ => Ok(Self { permits, auth_source, load_balanced }),
        }
    }
}

impl MongoLogin {
    /// Dials the servers of the connection, and logs in at the primary.
    ///
    /// # Errors
    /// When no server can be reached, proves itself, and accepts the login.
    pub async fn run(&mut self, exchange: &mut ServiceExchange) -> Result<Upstream, Refused> {
        exchange.set_role(self.user());
        let servers = ServerList::of(exchange, self.permitted.permit()).await?;
        self.load_balanced = servers.load_balanced;
        // A setting of the connection has precedence over DNS.
        if let Some(source) =
            servers.auth_source.clone().filter(|_| self.auth_source == AUTH_SOURCE)
        {
            self.auth_source = source;
        }
        let Member { mut upstream, hello, permit } = self.member(exchange, servers).await?;
        exchange.use_member(&permit);
        self.server = self.permitted.permit().endpoint().one_of_several(&permit.endpoint().target);
        in_time(exchange, self.open_on(&mut upstream, &hello)).await?;
        Ok(upstream)
    }

    /// The primary, or a server that knows of none.
    ///
    /// # Errors
    /// When no server answers, or the primary may not be dialled.
    async fn member(
        &self,
        exchange: &mut ServiceExchange,
        servers: ServerList,
    ) -> Result<Member, Refused> {
        let within = exchange.connect_timeout();
        let (mut waiting, mut search) = (servers.permits.into_iter(), MemberSearch::default());
        let (mut asked, mut is_next_due) = (FuturesUnordered::new(), true);
        loop {
            if is_next_due && let Some(permit) = waiting.by_ref().find(|it| search.begins(it)) {
                asked.push(self.ask_member(exchange.begin_attempt(), within, permit));
            }
            let answer = tokio::select! {
                answer = asked.next() => answer,
                () = tokio::time::sleep(NEXT_ATTEMPT_AFTER), if waiting.len() > 0 => {
                    is_next_due = true;
                    continue;
                }
            };
            is_next_due = true;
            let found = match answer {
                Some(answer) => search.answered(answer),
                None if waiting.len() > 0 => continue,
                None => return search.failed(exchange),
            };
            let primary = match found {
                MemberAnswer::Member(member) => return Ok(*member),
                MemberAnswer::Primary(at) => exchange.permit_member(self.permitted.permit(), at),
                MemberAnswer::Nothing => continue,
            };
            if let Some(permit) = search.primary(primary) {
                asked.push(self.ask_member(exchange.begin_attempt(), within, permit));
                is_next_due = false;
            }
        }
    }

    /// Dials one server and reads its `hello`. Several attempts run in parallel.
    async fn ask_member(
        &self,
        gateway: Arc<Gateway>,
        within: Duration,
        permit: DatabasePermit,
    ) -> Result<Member, MemberFailure> {
        let mut upstream =
            Upstream::reach(&gateway, &permit).await.map_err(MemberFailure::Unreached)?;
        let hello = tokio::time::timeout(within, self.greeted_on(&mut upstream)).await;
        let hello = hello.unwrap_or(Err(ServerError::Timeout)).map_err(MemberFailure::Failed)?;
        Ok(Member { upstream, hello, permit })
    }
}

/// The answers of the servers so far.
#[derive(Default)]
struct MemberSearch {
    /// The servers that were asked.
    begun: Vec<Target>,
    /// A server that knows of no primary.
    reader: Option<Member>,
    failure: Option<MemberFailure>,
    /// Whether a server knows of a primary.
    has_primary: bool,
}

/// The next step after an answer.
enum MemberAnswer {
    Member(Box<Member>),
    /// The server that was named as the primary.
    Primary(Target),
    Nothing,
}

impl MemberSearch {
    /// Records an attempt at a server. Returns `false` if there was one before, or there were too many.
    fn begins(&mut self, permit: &DatabasePermit) -> bool {
        let target = &permit.endpoint().target;
        let is_new = !self.begun.contains(target) && self.begun.len() < ATTEMPTS_MAX;
        if is_new {
            self.begun.push(target.clone());
        }
        is_new
    }

    fn answered(&mut self, answer: Result<Member, MemberFailure>) -> MemberAnswer {
        let member = match answer {
            Ok(member) => member,
            Err(silent) => {
                self.failure.get_or_insert(silent);
                return MemberAnswer::Nothing;
            }
        };
        match primary(&member.hello, &member.permit.endpoint().target) {
            Primary::Itself => MemberAnswer::Member(Box::new(member)),
            Primary::Other(at) => {
                self.has_primary = true;
                MemberAnswer::Primary(at)
            }
            Primary::Unknown => {
                self.reader.get_or_insert(member);
                MemberAnswer::Nothing
            }
            Primary::NotServing => MemberAnswer::Nothing,
        }
    }

    /// The server that was named as the primary, unless it was asked before or may not be asked. The reason why not goes
    /// before failures of other servers.
    fn primary(
        &mut self,
        permitted: Result<Option<DatabasePermit>, FailedAttempt>,
    ) -> Option<DatabasePermit> {
        let refused = match permitted {
            Ok(Some(permit)) => return self.begins(&permit).then_some(permit),
            Ok(None) => MemberFailure::Failed(ServerError::OtherDomain),
            Err(denied) => MemberFailure::Unreached(denied),
        };
        self.failure = Some(refused);
        None
    }

    /// All servers have answered, none as the primary.
    fn failed(self, exchange: &mut ServiceExchange) -> Result<Member, Refused> {
        if let Some(member) = self.reader.filter(|_| !self.has_primary) {
            return Ok(member);
        }
        Err(match self.failure {
            Some(MemberFailure::Unreached(failed)) => exchange.refused_attempt(&failed).into(),
            Some(MemberFailure::Failed(error)) => error.into(),
            None => ServerError::NoPrimary.into(),
        })
    }
}

/// Where the primary is, as a server says.
enum Primary {
    /// It is the primary, a `mongos`, or alone.
    Itself,
    Other(Target),
    /// The server knows no primary, but serves reads.
    Unknown,
    /// The server knows no primary and serves nothing: an arbiter, or a server that starts or recovers.
    NotServing,
}

/// `own`: the server that said this.
fn primary(hello: &RawDocument, own: &Target) -> Primary {
    let says = |name: &str| matches!(hello.get_bool(name), Ok(true));
    if says("ismaster") || says("isWritablePrimary") {
        return Primary::Itself;
    }
    let named = hello.get_str("primary").ok();
    let target = named.and_then(|named| Target::parse(Scheme::Https, named).ok());
    match target {
        Some(target) if target != *own => Primary::Other(target),
        _ if says("secondary") => Primary::Unknown,
        _ => Primary::NotServing,
    }
}

fn unlisted(error: &SeedListError) -> Refused {
    let code = match error {
        SeedListError::Servers { .. } => Code::UpstreamUnreachable,
        SeedListError::Options { .. } => Code::UpstreamProtocol,
        SeedListError::Timeout { .. } => Code::UpstreamTimeout,
    };
    let hint = "see `dig SRV` and `dig TXT` of that name, or give the servers as `mongodb://A,B`";
    Refused::Keyward(code.because(error.to_string()).hint(hint))
}

#[cfg(test)]
mod tests {
    use bson::rawdoc;

    use super::*;
    use crate::sample;
    use keyward_base::database::DatabaseProtocol;
    use keyward_rules::policy::Policy;

    fn target(text: &str) -> Target {
        Target::parse(Scheme::Https, text).expect("a target")
    }

    #[test]
    fn only_a_secondary_serves_reads_and_the_name_of_a_primary_is_canonical() {
        let own = target("a.db.test:27017");
        let of = |hello: RawDocumentBuf| match primary(&hello, &own) {
            Primary::Itself => "itself".to_owned(),
            Primary::Other(at) => format!("{}:{}", at.host(), at.port()),
            Primary::Unknown => "unknown".to_owned(),
            Primary::NotServing => "not serving".to_owned(),
        };
        let secondary = |primary: &str| rawdoc! { "secondary": true, "primary": primary };
        for (hello, expected) in [
            (rawdoc! { "ismaster": true, "primary": "b.db.test:27017" }, "itself"),
            (rawdoc! { "isWritablePrimary": true }, "itself"),
            (secondary("b.db.test:27017"), "b.db.test:27017"),
            (secondary("B.DB.Test.:27017"), "b.db.test:27017"),
            (secondary("[2001:DB8::1]:27017"), "[2001:db8::1]:27017"),
            (secondary("A.db.test:27017"), "unknown"),
            (rawdoc! { "ismaster": false, "secondary": true }, "unknown"),
            (rawdoc! { "arbiterOnly": true, "primary": "b.db.test:27018" }, "b.db.test:27018"),
            (rawdoc! { "ismaster": false, "arbiterOnly": true }, "not serving"),
            (rawdoc! { "ismaster": false, "secondary": false }, "not serving"),
            (rawdoc! { "isreplicaset": true }, "not serving"),
        ] {
            assert_eq!(of(hello.clone()), expected, "{hello:?}");
        }
    }

    #[test]
    fn a_server_that_names_another_primary_each_time_is_followed_to_a_bounded_number_of_servers() {
        let permitted = sample::permitted(DatabaseProtocol::Mongodb, Some("app"), "password");
        let (mut search, mut asked) = (MemberSearch::default(), 0);
        for port in 27017..27117 {
            let named = target(&format!("db.test:{port}"));
            let permit = Policy::permit_member_test(permitted.permit(), named);
            asked += usize::from(search.primary(Ok(permit)).is_some());
        }
        assert_eq!(asked, ATTEMPTS_MAX);
    }
}
