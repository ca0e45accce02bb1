//! Finds the server of a replica set for a session, and logs in there: at the primary, or at any server if no primary
//! is known. If a server does not answer within 500 ms, the next one is tried in parallel.

use std::slice::from_ref;
use std::sync::Arc;
use std::time::Duration;

use bson::RawDocumentBuf;
use futures_util::stream::{FuturesUnordered, StreamExt};

use super::login::{AUTH_SOURCE, MongoLogin};
use crate::login::ServerError;
use crate::refused::Refused;
use crate::upstream::Upstream;
use keyward_base::codes::Code;
use keyward_base::database::Seeds;
use keyward_base::host::{Scheme, Target};
use keyward_proxy::{FailedAttempt, Gateway, SeedListError, ServiceExchange};
use keyward_rules::policy::DatabasePermit;

/// How long a server may take before the next one is tried in parallel. Drivers wait about as long on a slow network.
const NEXT_ATTEMPT_AFTER: Duration = Duration::from_millis(500);

/// A server that has answered.
struct Member {
    upstream: Upstream,
    /// Its answer to `hello`.
    hello: RawDocumentBuf,
    permit: DatabasePermit,
}

/// Why a server has not answered.
enum MemberFailure {
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
    /// The servers of a permit.
    ///
    /// # Errors
    /// When DNS lists none, or one in another domain.
    async fn of(exchange: &ServiceExchange, permit: &DatabasePermit) -> Result<Self, Refused> {
        let endpoint = permit.endpoint();
        let (targets, auth_source, load_balanced) = match &endpoint.seeds {
            Seeds::Listed(more) => ([from_ref(&endpoint.target), &more[..]].concat(), None, false),
            Seeds::Srv => {
                let list = exchange.seed_list(permit).await.map_err(|error| unlisted(&error))?;
                (list.servers, list.auth_source, list.load_balanced)
            }
        };
        // As drivers do: a list with one server elsewhere is not used at all.
        let permits: Option<Vec<_>> =
            targets.into_iter().map(|target| permit.at_member(target)).collect();
        let permits = permits.ok_or(ServerError::ListedElsewhere)?;
        Ok(Self { permits, auth_source, load_balanced })
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
        self.server = self.permitted.permit().endpoint().one_of_several(&permit.endpoint().target);
        let within = exchange.connect_timeout();
        let opened = tokio::time::timeout(within, self.open_on(&mut upstream, &hello)).await;
        match opened.unwrap_or(Err(ServerError::Timeout)) {
            Ok(()) => Ok(upstream),
            Err(error) => {
                tracing::info!(exchange = exchange.id(), %error, "the login at a database server failed");
                Err(error.into())
            }
        }
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
            match found {
                MemberAnswer::Member(member) => return Ok(*member),
                MemberAnswer::Primary(permit) => {
                    asked.push(self.ask_member(exchange.begin_attempt(), within, permit));
                    is_next_due = false;
                }
                MemberAnswer::Nothing => {}
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
    /// The server that was named, which is asked now.
    Primary(DatabasePermit),
    Nothing,
}

impl MemberSearch {
    /// Records an attempt at a server. Returns `false` if there was one before.
    fn begins(&mut self, permit: &DatabasePermit) -> bool {
        let target = &permit.endpoint().target;
        let is_new = !self.begun.contains(target);
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
        let at = match primary(&member) {
            Primary::Itself => return MemberAnswer::Member(Box::new(member)),
            Primary::Unknown => {
                self.reader.get_or_insert(member);
                return MemberAnswer::Nothing;
            }
            Primary::Other(at) => at,
        };
        self.has_primary = true;
        match member.permit.at_member(at) {
            Some(permit) if self.begins(&permit) => MemberAnswer::Primary(permit),
            Some(_) => MemberAnswer::Nothing,
            None => {
                self.failure.get_or_insert(MemberFailure::Failed(ServerError::OtherDomain));
                MemberAnswer::Nothing
            }
        }
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
    /// The server knows no primary, but may serve reads.
    Unknown,
}

fn primary(member: &Member) -> Primary {
    let hello = &member.hello;
    let is_primary = |name: &str| matches!(hello.get_bool(name), Ok(true));
    if is_primary("ismaster") || is_primary("isWritablePrimary") {
        return Primary::Itself;
    }
    let named = hello.get_str("primary").ok();
    let target = named.and_then(|named| Target::parse(Scheme::Https, named).ok());
    match target {
        Some(target) if target != member.permit.endpoint().target => Primary::Other(target),
        _ => Primary::Unknown,
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
