//! Simulates several replicas over one store, with crashes, pauses, cut links and different clocks at every moment of a
//! refresh. The code of the replicas runs with the leases, the feed of changes and the versions of the shared store.

mod link;
mod lost;
mod removals;
mod rotations;
mod schedules;
mod server;

use keyward_rules::inject::credential::Credential;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use self::link::{Link, LinkState};
use self::rotations::{Declared, NewSecret, RotationEnd};
pub(super) use self::server::AskingReplica;
use self::server::{FleetWorld, Weakness};
use super::server::{Answer, What, grant as grant_of};
use super::*;

/// The number of replicas.
const REPLICAS: usize = 3;

/// A change is in force at the other replicas within this time: the pause of the feed after a failure, and the timeout
/// of an operation.
const IN_FORCE: Duration = Duration::from_secs(5);

/// A connection is usable again within this time after all faults have ended: until then leases and pauses end.
const HEALED_WITHIN: Duration = Duration::from_secs(1_200);

/// One step of a schedule.
#[derive(Clone, Debug)]
enum FleetStep {
    /// Time passes, in milliseconds.
    Pass(u64),
    /// This number of agents request the credential from a replica.
    Want(usize, u8),
    /// The upstream refuses the last credential that an agent of this replica got.
    Refused(usize),
    /// The owner reconnects; the token is valid for this number of seconds.
    Connect(usize, Option<u32>),
    /// The row of the grant is written again, with the same tokens.
    Rewrite(usize),
    /// A person gives another secret.
    Rotate(usize, NewSecret),
    /// A person ends the last rotation.
    EndRotation(usize, RotationEnd),
    /// A replica reads the configuration, which names this secret.
    Declare(usize, Declared),
    /// A replica reads a changed catalogue.
    Reload(usize),
    /// A replica crashes, and restarts with a clock that differs by this number of seconds.
    Crash(usize, u64),
    /// A replica is paused until its `Mend`.
    Pause(usize),
    /// A replica cannot reach the store.
    Cut(usize),
    /// No replica can reach the store.
    Absent,
    /// A replica evicts idle credentials.
    Idle(usize),
    /// A replica resumes, and reaches the store.
    Mend(usize),
}

/// One replica, until it crashes.
struct Replica {
    vault: Vault,
    link: Arc<Link>,
    last: Arc<Mutex<Option<Arc<Credential>>>>,
    follower: JoinHandle<()>,
    tasks: JoinSet<()>,
}

/// The replicas and their connection.
struct Fleet {
    fleet: Arc<FleetWorld>,
    keyring: Arc<Keyring>,
    replicas: Vec<Replica>,
    connection: Arc<ConnectionRecord>,
}

impl Replica {
    async fn start(
        fleet: &Arc<FleetWorld>,
        keyring: &Arc<Keyring>,
        link: Arc<Link>,
        ahead: u64,
    ) -> Self {
        let clock = Clock::Simulated(Instant::now() - Duration::from_secs(ahead));
        let store: Arc<dyn Store> = link.clone();
        let directory = Directory::open(store.clone(), keyring.clone(), clock.clone()).await;
        let directory = Arc::new(directory.expect("the store answers"));
        let vault =
            Vault::open(store, keyring.clone(), directory, CATALOGUE.clone(), clock.clone());
        let vault = vault.await.expect("the store answers");
        let replica = Some(AskingReplica { fleet: fleet.clone(), link: link.clone() });
        let (world, answered) = (fleet.world.clone(), Arc::default());
        vault
            .refresh()
            .requester()
            .scripted(CALLER.clone(), Script { world, clock, answered, replica });
        let following = vault.clone();
        let follower = tokio::spawn(async move {
            let changed = |table: Table, key: &str| following.changed_elsewhere(table, key);
            following.directory().follow(&changed).await;
        });
        Self { vault, link, last: Arc::default(), follower, tasks: JoinSet::new() }
    }

    fn crash(&mut self) {
        self.link.set(LinkState::Dead);
        self.follower.abort();
        self.tasks.abort_all();
    }
}

impl Fleet {
    async fn new(answers: Vec<Answer>, life: Option<u32>) -> Self {
        let (fleet, keyring) = (FleetWorld::new(answers), Arc::new(Keyring::ephemeral()));
        let link = Link::first(&fleet);
        let first = Replica::start(&fleet, &keyring, link, 0).await;
        let grant = fleet.world.consent(&first.vault.context().clock, life);
        let connection = add(&first.vault, grant).await;
        let mut replicas = vec![first];
        for number in 1..REPLICAS as u64 {
            let link = replicas[0].link.another();
            replicas.push(Replica::start(&fleet, &keyring, link, number * 20).await);
        }
        Self { fleet, keyring, replicas, connection }
    }

    fn want(&mut self, at: usize, count: u8) {
        for _ in 0..count {
            let (fleet, replica) = (self.fleet.clone(), &mut self.replicas[at]);
            let (vault, link) = (replica.vault.clone(), replica.link.clone());
            let (last, connection) = (replica.last.clone(), self.connection.clone());
            replica.tasks.spawn(async move {
                link.running().await;
                // A replica that was cut off serves credentials from memory.
                let steady = link.steady_for();
                let least = match steady > IN_FORCE {
                    true => fleet.version_at(Instant::now() - IN_FORCE),
                    false => 0,
                };
                let wanted = wanted(&connection);
                let credential =
                    vault.refresh().credential_in(&connection.org, Some(&wanted)).await;
                fleet.checked(&vault.context().clock, credential, least, &last);
            });
        }
    }

    fn refused(&mut self, at: usize) {
        let (fleet, replica) = (self.fleet.clone(), &mut self.replicas[at]);
        let Some(stale) = replica.last.lock().clone() else { return };
        let (vault, link, last) =
            (replica.vault.clone(), replica.link.clone(), replica.last.clone());
        replica.tasks.spawn(async move {
            link.running().await;
            let newer = vault.refresh().renew(&stale).await;
            fleet.checked(&vault.context().clock, newer, stale.generation + 1, &last);
        });
    }

    fn connect(&mut self, at: usize, life: Option<u32>) {
        let (fleet, connection) = (self.fleet.clone(), self.connection.clone());
        let replica = &mut self.replicas[at];
        let (vault, link) = (replica.vault.clone(), replica.link.clone());
        replica.tasks.spawn(async move {
            link.running().await;
            let grant = fleet.world.consent(&vault.context().clock, life);
            let facts = Granted::default();
            match vault.lifecycle().connect(&connection.org, &connection.id, grant, facts).await {
                Ok(_) => {}
                Err(error) if is_of_store(&error) => {}
                Err(error) => fleet.world.is_wrong(format!("connecting: {error}")),
            }
        });
    }

    fn rewrite(&mut self, at: usize) {
        let (fleet, connection) = (self.fleet.clone(), self.connection.clone());
        let replica = &mut self.replicas[at];
        let (vault, link) = (replica.vault.clone(), replica.link.clone());
        replica.tasks.spawn(async move {
            link.running().await;
            match vault.refresh().ignore_test(&connection.org, &connection.id).await {
                Ok(()) => {}
                Err(error) if is_of_store(&error) => {}
                Err(error) => fleet.world.is_wrong(format!("rewriting: {error}")),
            }
        });
    }

    fn reload(&self, at: usize) {
        let vault = &self.replicas[at].vault;
        let is_first = Arc::ptr_eq(&vault.shared_catalogue(), &CATALOGUE);
        vault.replace_catalogue(if is_first { RELOADED.clone() } else { CATALOGUE.clone() });
    }

    /// A replica can start only while the store answers, so the other faults end before.
    async fn crash(&mut self, at: usize, ahead: u64) {
        self.replicas[at].crash();
        let link = self.replicas[at].link.another();
        self.replicas[at] = Replica::start(&self.fleet, &self.keyring, link, ahead).await;
    }

    async fn play(&mut self, steps: &[FleetStep]) {
        for step in steps {
            match *step {
                FleetStep::Pass(ms) => passes(ms).await,
                FleetStep::Want(at, count) => self.want(at, count),
                FleetStep::Refused(at) => self.refused(at),
                FleetStep::Connect(at, life) => self.connect(at, life),
                FleetStep::Rewrite(at) => self.rewrite(at),
                FleetStep::Rotate(at, new) => self.rotate(at, new),
                FleetStep::EndRotation(at, end) => self.end_rotation(at, end),
                FleetStep::Declare(at, named) => self.declare(at, named),
                FleetStep::Reload(at) => self.reload(at),
                FleetStep::Crash(at, ahead) => self.crash(at, ahead).await,
                FleetStep::Pause(at) => self.replicas[at].link.set(LinkState::Paused),
                FleetStep::Cut(at) => self.replicas[at].link.set(LinkState::Cut),
                FleetStep::Absent => {
                    self.replicas.iter().for_each(|it| it.link.set(LinkState::Cut));
                }
                FleetStep::Idle(at) => self.replicas[at].vault.refresh().cache().drop_idle(),
                FleetStep::Mend(at) => self.replicas[at].link.set(LinkState::Up),
            }
        }
        self.heals().await;
    }

    /// Ends all faults, also those of the authorization server. Requests end, and all replicas agree.
    async fn heals(&mut self) {
        self.fleet.world.all_succeed();
        for replica in &mut self.replicas {
            replica.link.set(LinkState::Up);
        }
        for replica in &mut self.replicas {
            let all_end = async {
                while let Some(ended) = replica.tasks.join_next().await {
                    ended.expect("no task panics");
                }
            };
            if tokio::time::timeout(ENDED_WITHIN, all_end).await.is_err() {
                self.fleet.world.is_wrong("a request never ended");
            }
            if !replica.vault.refresh().wait_for_flights(ENDED_WITHIN).await {
                self.fleet.world.is_wrong("a flight never ended");
            }
        }
        passes(IN_FORCE.as_millis() as u64).await;
        if self.fleet.world.may_break.load(SeqCst) {
            return;
        }
        for at in 0..self.replicas.len() {
            if let Err(error) = self.healed(at).await
                && !self.fleet.world.may_break.load(SeqCst)
            {
                self.fleet.world.is_wrong(format!("replica {at} does not heal: {error:?}"));
            }
        }
        if !self.fleet.world.may_break.load(SeqCst) {
            self.nothing_is_lost().await;
        }
    }

    /// Requests a credential from a replica until there is one.
    async fn healed(&self, at: usize) -> Result<(), VaultError> {
        let (wanted, vault) = (wanted(&self.connection), &self.replicas[at].vault);
        let until = Instant::now() + HEALED_WITHIN;
        loop {
            match vault.refresh().credential_in(&self.connection.org, Some(&wanted)).await {
                Ok(_) => return Ok(()),
                Err(error) if Instant::now() > until => return Err(error),
                Err(_) => passes(5_000).await,
            }
        }
    }
}

impl FleetWorld {
    fn checked(
        &self,
        clock: &Clock,
        given: Result<Option<Arc<Credential>>, VaultError>,
        least: u64,
        last: &Mutex<Option<Arc<Credential>>>,
    ) {
        match given {
            Ok(None) => {}
            Ok(Some(credential)) => {
                if credential.expires.is_some_and(|ends| ends <= clock.now()) {
                    self.world.is_wrong("an expired credential went out");
                }
                if credential.generation < least {
                    let generation = credential.generation;
                    let words =
                        format!("generation {generation} went out {IN_FORCE:?} after {least}");
                    self.world.is_wrong(words);
                }
                *last.lock() = Some(credential);
            }
            Err(error) => match error.root() {
                VaultError::RefreshUnavailable { .. } => {}
                VaultError::Broken { .. } if self.world.may_break.load(SeqCst) => {}
                error if is_of_store(error) => {}
                error => self.world.is_wrong(format!("a request failed: {error}")),
            },
        }
    }
}

/// Whether the store did not answer.
fn is_of_store(error: &VaultError) -> bool {
    let text = format!("{:?}", error.root());
    text.contains("the database does not answer")
}
