//! [`SeedLists`]: the servers that DNS lists under a name, as `mongodb+srv://` means it. Their addresses are resolved and checked
//! by the dialler. <https://github.com/mongodb/specifications/blob/master/source/initial-dns-seedlist-discovery/initial-dns-seedlist-discovery.md>

use std::fmt;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use hickory_resolver::TokioResolver;
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig};
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::RData;
use keyward_base::host::{Scheme, Target};

/// The maximum number of servers per name; further ones are ignored.
const SERVERS_MAX: usize = 32;

/// How long answers are kept at most, and how late a change of the system's DNS servers is noticed.
const RESOLVER_AGE_MAX: Duration = Duration::from_secs(60);

/// The servers and options that DNS lists under a name.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct SeedList {
    /// The servers, those of the lowest priority first. They may be in any domain: the caller decides which it uses.
    pub servers: Vec<Target>,
    /// The database in which users are defined (`authSource`).
    pub auth_source: Option<String>,
    /// Whether the servers are behind a load balancer that must be named in the greeting.
    pub load_balanced: bool,
}

/// Why the servers of a name cannot be found.
#[derive(Debug, thiserror::Error)]
pub enum SeedListError {
    /// No answer, or no record.
    #[error("DNS lists no servers under `_mongodb._tcp.{name}`")]
    Servers {
        name: String,
        /// The resolver's error.
        #[source]
        source: Box<NetError>,
    },
    /// The TXT record of the name is not valid for MongoDB, or its lookup failed.
    #[error("the TXT record of {name} cannot be used: {why}")]
    Options {
        name: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// No answer in time.
    #[error("DNS did not list the servers of {name} in time")]
    Timeout { name: String },
}

/// Looks up names.
#[derive(Default)]
pub struct SeedLists {
    /// The DNS servers that are asked; those of the system if there are none.
    dns: Vec<SocketAddr>,
    resolver: ArcSwapOption<AgedResolver>,
}

struct AgedResolver {
    made: Instant,
    resolver: TokioResolver,
}

impl SeedLists {
    /// `dns`: the DNS servers; none means those of the system.
    pub fn new(dns: Vec<SocketAddr>) -> Self {
        Self { dns, resolver: ArcSwapOption::empty() }
    }

    /// The servers of a name.
    ///
    /// # Errors
    /// When DNS lists no server within this time, or the options are not valid for MongoDB.
    pub async fn of(&self, name: &str, within: Duration) -> Result<SeedList, SeedListError> {
        let found = tokio::time::timeout(within, self.found(name)).await;
        found.unwrap_or_else(|_| Err(SeedListError::Timeout { name: name.to_owned() }))
    }

    async fn found(&self, name: &str) -> Result<SeedList, SeedListError> {
        let failed = |source| {
            let source = Box::new(source);
            SeedListError::Servers { name: name.to_owned(), source }
        };
        let aged = self.resolver().map_err(failed)?;
        let servers_name = format!("_mongodb._tcp.{name}.");
        let options_name = format!("{name}.");
        let (servers, options) = tokio::join!(
            aged.resolver.srv_lookup(servers_name),
            aged.resolver.txt_lookup(options_name)
        );
        let servers = servers.map_err(failed)?;
        let mut listed: Vec<(u16, Target)> = Vec::new();
        for record in servers.answers() {
            let RData::SRV(srv) = &record.data else { continue };
            let host = srv.target.to_utf8();
            let authority = format!("{}:{}", host.trim_end_matches('.'), srv.port);
            if let Ok(target) = Target::parse(Scheme::Https, &authority) {
                listed.push((srv.priority, target));
            }
        }
        listed.sort_by_key(|(priority, _)| *priority);
        let servers = listed.into_iter().map(|(_, target)| target).take(SERVERS_MAX).collect();
        let wrong = |why| SeedListError::Options { name: name.to_owned(), why };
        let texts = match options {
            Ok(options) => texts(options.answers()),
            Err(error) if error.is_no_records_found() => Vec::new(),
            Err(_) => return Err(wrong("DNS does not answer")),
        };
        let mut list = SeedList { servers, ..SeedList::default() };
        match &texts[..] {
            [] => {}
            [text] => list.set_options(text).map_err(wrong)?,
            _ => return Err(wrong("there are several")),
        }
        Ok(list)
    }

    fn resolver(&self) -> Result<std::sync::Arc<AgedResolver>, NetError> {
        if let Some(known) = self.resolver.load_full()
            && known.made.elapsed() < RESOLVER_AGE_MAX
        {
            return Ok(known);
        }
        let builder = match &self.dns[..] {
            [] => TokioResolver::builder_tokio()?,
            servers => {
                let servers = servers.iter().map(name_server).collect();
                let config = ResolverConfig::from_name_servers(servers);
                TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
            }
        };
        let aged = AgedResolver { made: Instant::now(), resolver: builder.build()? };
        let aged = std::sync::Arc::new(aged);
        self.resolver.store(Some(aged.clone()));
        Ok(aged)
    }
}

impl SeedList {
    /// Parses the options of a TXT record. Only `authSource`, `replicaSet` and `loadBalanced` are permitted.
    fn set_options(&mut self, text: &str) -> Result<(), &'static str> {
        for pair in text.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').ok_or("it is no list of options")?;
            match (&*name.to_ascii_lowercase(), value) {
                ("authsource", "") => return Err("`authSource` is empty"),
                ("authsource", source) => self.auth_source = Some(source.to_owned()),
                // Ignored: only drivers that use several servers compare it.
                ("replicaset", _) => {}
                ("loadbalanced", "true") => self.load_balanced = true,
                ("loadbalanced", "false") => self.load_balanced = false,
                _ => return Err("it may have authSource, replicaSet and loadBalanced only"),
            }
        }
        match self.load_balanced && self.servers.len() != 1 {
            true => Err("`loadBalanced` needs one server"),
            false => Ok(()),
        }
    }
}

/// The texts of TXT records, each of which may be in several pieces.
fn texts(records: &[hickory_resolver::proto::rr::Record]) -> Vec<String> {
    let txt = records.iter().filter_map(|record| match &record.data {
        RData::TXT(txt) => Some(txt.txt_data.concat()),
        _ => None,
    });
    txt.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).collect()
}

fn name_server(at: &SocketAddr) -> NameServerConfig {
    let on_port = |mut connection: ConnectionConfig| {
        connection.port = at.port();
        connection
    };
    let connections = vec![on_port(ConnectionConfig::udp()), on_port(ConnectionConfig::tcp())];
    NameServerConfig::new(at.ip(), true, connections)
}

impl fmt::Debug for SeedLists {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SeedLists").field("dns", &self.dns).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_txt_record_sets_three_options_and_no_other() {
        let server = || Target::parse(Scheme::Https, "a.db.test:27017").expect("a target");
        let parsed = |text: &str| {
            let mut list = SeedList { servers: vec![server()], ..SeedList::default() };
            list.set_options(text).map(|()| (list.auth_source, list.load_balanced))
        };
        assert_eq!(parsed("authSource=admin&replicaSet=rs0"), Ok((Some("admin".into()), false)));
        assert_eq!(parsed("loadBalanced=true"), Ok((None, true)));
        for refused in ["tls=false", "authSource=", "socketTimeoutMS=1", "v=spf1 -all", "x"] {
            assert!(parsed(refused).is_err(), "{refused}");
        }
        let mut two = SeedList { servers: vec![server(), server()], ..SeedList::default() };
        assert_eq!(two.set_options("loadBalanced=true"), Err("`loadBalanced` needs one server"));
    }
}
