//! Streams to one of several servers: to the first server that accepts writes, beginning with the one that was used
//! last. After a part of the time limit, and after a failure, the next server is tried too, so that a server that does
//! not answer does not delay the others.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use deadpool_postgres::Connect;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use parking_lot::Mutex;
use tokio::task::JoinHandle;
use tokio_postgres::config::{Host, LoadBalanceHosts, TargetSessionAttrs};
use tokio_postgres::tls::{MakeTlsConnect, TlsConnect};
use tokio_postgres::{AsyncMessage, Client, Config, Error, Socket};

use super::change_notice::ChangeNotice;
use super::failure::{PostgresError, PostgresFailure};

/// Opens streams.
pub(super) struct PostgresServers<T> {
    all: Vec<Config>,
    tls: T,
    timeout: Duration,
    /// Whether each stream begins with another server: `load_balance_hosts=random`.
    is_spread: bool,
    used_last: AtomicUsize,
    failures: ServerFailures,
    /// Receives the notifications of the streams.
    notice: Arc<ChangeNotice>,
}

/// Why each of several servers gave no stream in the last attempt, for messages. The error of a pool has one cause only.
#[derive(Clone, Default)]
pub(super) struct ServerFailures(Arc<Mutex<Vec<String>>>);

impl ServerFailures {
    fn set(&self, mut failures: Vec<String>) {
        failures.sort_unstable();
        *self.0.lock() = failures;
    }

    /// `None`: there is one server.
    pub(super) fn text(&self) -> Option<String> {
        let failures = self.0.lock();
        (!failures.is_empty()).then(|| failures.join("; "))
    }
}

/// Hosts and ports, for messages.
pub(super) fn addresses(database: &Config) -> Vec<String> {
    let ports = database.get_ports();
    let hosts = database.get_hosts().iter().enumerate().map(|(index, host)| match host {
        // A single port applies to all hosts.
        Host::Tcp(name) => match ports.get(index).or(ports.first()) {
            Some(port) => format!("{name}:{port}"),
            None => name.clone(),
        },
        Host::Unix(path) => path.display().to_string(),
    });
    hosts.collect()
}

impl<T> PostgresServers<T> {
    /// The servers of a configuration. `timeout` limits the time for opening a stream.
    pub(super) fn of(
        database: &Config,
        tls: T,
        timeout: Duration,
        notice: &Arc<ChangeNotice>,
        failures: &ServerFailures,
    ) -> Result<Self, PostgresError> {
        let (hosts, addresses) = (database.get_hosts().len(), database.get_hostaddrs().len());
        let (count, ports) = (hosts.max(addresses), database.get_ports().len());
        if count == 0 {
            return Err(PostgresError::Settings("the URL names no host".to_owned()));
        }
        let fits = |other: usize, least: usize| other <= least || other == count;
        if !fits(hosts, 0) || !fits(addresses, 0) || !fits(ports, 1) {
            let text = format!(
                "the URL names {hosts} hosts, {addresses} addresses (`hostaddr`) and {ports} ports: name as many \
                 of each, or one port for all"
            );
            return Err(PostgresError::Settings(text));
        }
        let all = (0..count).map(|at| only(database, at)).collect();
        let is_spread = database.get_load_balance_hosts() == LoadBalanceHosts::Random;
        let (used_last, notice) = (AtomicUsize::new(0), notice.clone());
        Ok(Self { all, tls, timeout, is_spread, used_last, failures: failures.clone(), notice })
    }
}

type SetText = fn(&mut Config, String) -> &mut Config;

/// The configuration of one server. Of several servers, only those that accept writes are used, whatever the URL says.
fn only(database: &Config, at: usize) -> Config {
    let mut one = Config::new();
    match database.get_hosts().get(at) {
        Some(Host::Tcp(name)) => drop(one.host(name.clone())),
        Some(Host::Unix(path)) => drop(one.host_path(path)),
        None => {}
    }
    if let Some(address) = database.get_hostaddrs().get(at) {
        one.hostaddr(*address);
    }
    if let Some(port) = database.get_ports().get(at).or(database.get_ports().first()) {
        one.port(*port);
    }
    let texts: [(Option<&str>, SetText); 4] = [
        (database.get_user(), Config::user),
        (database.get_dbname(), Config::dbname),
        (database.get_options(), Config::options),
        (database.get_application_name(), Config::application_name),
    ];
    for (text, set) in texts {
        if let Some(text) = text {
            set(&mut one, text.to_owned());
        }
    }
    if let Some(password) = database.get_password() {
        one.password(password);
    }
    if let Some(timeout) = database.get_connect_timeout() {
        one.connect_timeout(*timeout);
    }
    if let Some(timeout) = database.get_tcp_user_timeout() {
        one.tcp_user_timeout(*timeout);
    }
    if let Some(interval) = database.get_keepalives_interval() {
        one.keepalives_interval(interval);
    }
    if let Some(retries) = database.get_keepalives_retries() {
        one.keepalives_retries(retries);
    }
    one.keepalives(database.get_keepalives()).keepalives_idle(database.get_keepalives_idle());
    one.ssl_mode(database.get_ssl_mode()).ssl_negotiation(database.get_ssl_negotiation());
    one.channel_binding(database.get_channel_binding());
    one.load_balance_hosts(database.get_load_balance_hosts());
    one.target_session_attrs(
        match database.get_hosts().len().max(database.get_hostaddrs().len()) {
            0 | 1 => database.get_target_session_attrs(),
            _ => TargetSessionAttrs::ReadWrite,
        },
    );
    one
}

/// The parts of an open stream that the pool keeps.
type Opened = (Client, JoinHandle<()>);

async fn open<T>(server: &Config, tls: T, notice: Arc<ChangeNotice>) -> Result<Opened, Error>
where
    T: MakeTlsConnect<Socket>,
    T::Stream: Send + 'static,
{
    let (client, mut connection) = server.connect(tls).await?;
    let ends = async move {
        while let Some(message) = poll_fn(|context| connection.poll_message(context)).await {
            match message {
                Ok(AsyncMessage::Notification(it)) => notice.notified(it.channel(), it.payload()),
                Ok(AsyncMessage::Notice(said)) => {
                    tracing::debug!(notice = said.message(), "the database says");
                }
                Ok(_) => {}
                Err(error) => {
                    let failure = PostgresFailure::of(error);
                    tracing::debug!(%failure, "a stream to the database has ended");
                    break;
                }
            }
        }
        // Dropped here, so that its client knows that the stream is closed.
        drop(connection);
        notice.stream_ended.notify_one();
    };
    Ok((client, tokio::spawn(ends)))
}

impl<T> Connect for PostgresServers<T>
where
    T: MakeTlsConnect<Socket> + Clone + Send + Sync + 'static,
    T::Stream: Send + Sync + 'static,
    T::TlsConnect: Send + Sync,
    <T::TlsConnect as TlsConnect<Socket>>::Future: Send,
{
    fn connect(
        &self,
        _: &Config,
    ) -> Pin<Box<dyn Future<Output = Result<Opened, Error>> + Send + '_>> {
        Box::pin(async move {
            let count = self.all.len();
            let first = match self.is_spread {
                true => self.used_last.fetch_add(1, Relaxed),
                false => self.used_last.load(Relaxed),
            };
            let share = self.timeout.div_f64(count as f64);
            let attempt = |turn: usize| {
                let at = (first + turn) % count;
                let opened = open(&self.all[at], self.tls.clone(), self.notice.clone());
                async move { (at, opened.await) }
            };
            let mut attempts = FuturesUnordered::from_iter([attempt(0)]);
            let mut begun = 1;
            let (mut failures, mut refused) = (Vec::new(), None);
            // The pool ends all attempts at its timeout.
            loop {
                let ended = tokio::time::timeout(share, attempts.next());
                match ended.await {
                    Ok(Some((at, Ok(opened)))) => {
                        if !self.is_spread {
                            self.used_last.store(at, Relaxed);
                        }
                        return Ok(opened);
                    }
                    Ok(Some((at, Err(error)))) => {
                        let why = PostgresFailure::of_ref(&error);
                        failures.push(format!("{}: {why}", addresses(&self.all[at]).join(", ")));
                        // A server that answers, such as that the password is wrong, says more than one that is down.
                        let error =
                            refused.take_if(|it: &mut Error| it.code().is_some()).unwrap_or(error);
                        if begun == count && attempts.is_empty() {
                            if count > 1 {
                                self.failures.set(failures);
                            }
                            return Err(error);
                        }
                        refused = Some(error);
                    }
                    Ok(None) | Err(_) => {}
                }
                if begun < count {
                    attempts.push(attempt(begun));
                    begun += 1;
                }
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(url: &str) -> Result<Vec<Config>, PostgresError> {
        let database = url.parse().unwrap();
        let notice = Arc::new(ChangeNotice::new().unwrap());
        let (limit, failures) = (Duration::from_secs(1), ServerFailures::default());
        PostgresServers::of(&database, tokio_postgres::NoTls, limit, &notice, &failures)
            .map(|servers| servers.all)
    }

    #[test]
    fn each_server_has_one_address_and_the_shared_settings() {
        let all = of("postgres://u:p@one:1,two:2/d?hostaddr=127.0.0.1,::1&application_name=n&\
             keepalives_idle=7&tcp_user_timeout=3&target_session_attrs=any&options=-c%20a=b");
        let expected = |host: &str, address: &str, port: u16| {
            format!(
                "postgres://u:p@{host}:{port}/d?hostaddr={address}&application_name=n&keepalives_idle=7&\
                 tcp_user_timeout=3&target_session_attrs=read-write&options=-c%20a=b"
            )
        };
        let expected = [expected("one", "127.0.0.1", 1), expected("two", "::1", 2)];
        let expected = expected.map(|url| url.parse::<Config>().unwrap());
        assert_eq!(all.unwrap(), expected);
    }

    #[test]
    fn mismatched_numbers_of_hosts_addresses_and_ports_are_refused() {
        for url in [
            "postgres://u@one,two/d?hostaddr=127.0.0.1",
            "postgres://u@one:1,two:2,three:3/d?port=4",
        ] {
            let error = of(url).unwrap_err().to_string();
            assert!(error.contains("name as many of each"), "{url}: {error}");
        }
        assert_eq!(of("user=u host=one,two port=4").unwrap().len(), 2, "one port for both");
        let error = of("postgres:///d").unwrap_err().to_string();
        assert!(error.contains("names no host"), "{error}");
    }

    #[test]
    fn a_single_server_is_accepted_while_it_is_read_only() {
        let one = of("postgres://u@one/d").unwrap();
        assert_eq!(one[0].get_target_session_attrs(), TargetSessionAttrs::Any);
    }
}
