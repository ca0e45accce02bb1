//! The authorization server of several replicas: a refresh token that is used twice ends its grant (RFC 9700 §4.14). It
//! knows which replica got which answer, and so which second use is a violation.

use tokio::time::Instant;

use super::link::{Link, LinkState};
use super::*;
use crate::grant::oauth::{ErrorCode, Temporary};
use crate::grant::{Dead, MintError};
use crate::tests::simulation::server::numbers;

/// The state that all replicas share, and the results of the checks.
#[derive(Debug)]
pub(super) struct FleetWorld {
    pub(super) world: Arc<World>,
    /// By family, the use of each refresh token.
    uses: Mutex<HashMap<(u64, u64), Use>>,
    asking: Mutex<Vec<(u64, Arc<Link>)>>,
    /// Versions of the grant, with the time of their writing.
    versions: Mutex<Vec<(Version, Instant)>>,
    /// The secret that the configuration names.
    pub(super) declared: Mutex<Option<Grant>>,
    /// The weakness of the store.
    pub(super) weakness: Mutex<Weakness>,
    /// Second uses of a token that had an excuse.
    pub(super) excused: AtomicUsize,
}

/// A weakness of a store, which the simulation must detect.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) enum Weakness {
    #[default]
    None,
    /// It writes grants without comparing their versions.
    NoVersions,
    /// It grants every lease that is requested.
    NoLeases,
}

/// A refresh token that was used.
#[derive(Debug)]
struct Use {
    by: Arc<Link>,
    /// Whether the answer reached the replica.
    is_answered: bool,
}

/// The replica that a [`Script`] answers.
#[derive(Clone)]
pub(in crate::tests::simulation) struct AskingReplica {
    pub(super) fleet: Arc<FleetWorld>,
    pub(super) link: Arc<Link>,
}

/// A request in progress.
struct Request<'a> {
    fleet: &'a FleetWorld,
    family: u64,
    link: &'a Arc<Link>,
}

impl Drop for Request<'_> {
    fn drop(&mut self) {
        let mut asking = self.fleet.asking.lock();
        let is_it =
            |(of, link): &(u64, Arc<Link>)| *of == self.family && Arc::ptr_eq(link, self.link);
        if let Some(at) = asking.iter().position(is_it) {
            asking.remove(at);
        }
    }
}

impl FleetWorld {
    pub(super) fn new(answers: Vec<Answer>) -> Arc<Self> {
        Arc::new(Self {
            world: World::new(answers),
            uses: Mutex::default(),
            asking: Mutex::default(),
            versions: Mutex::default(),
            declared: Mutex::default(),
            weakness: Mutex::default(),
            excused: AtomicUsize::new(0),
        })
    }

    /// The database lost writes.
    pub(super) fn forget_versions(&self) {
        self.versions.lock().clear();
    }

    /// A write of the grant.
    pub(super) fn written(&self, key: &str, version: Version, expect: Expect) {
        if expect == Expect::Any {
            self.world.is_wrong(format!("{key} was written over whatever there was"));
        }
        let mut versions = self.versions.lock();
        if versions.last().is_some_and(|(newest, _)| *newest >= version) {
            self.world.is_wrong(format!("{version:?} of {key} was written late"));
        }
        versions.push((version, Instant::now()));
    }

    /// The version that was in force at this time.
    pub(super) fn version_at(&self, at: Instant) -> u64 {
        let versions = self.versions.lock();
        versions.iter().rev().find(|(_, written)| *written <= at).map_or(0, |(it, _)| it.0)
    }

    /// Checks a second use of a refresh token. It is excused only if the first replica could not store its answer, or
    /// if the second one was paused between the check of its lease and the request.
    fn used_again(&self, token: (u64, u64), by: &Arc<Link>, was_paused: bool) {
        let uses = self.uses.lock();
        let Some(first) = uses.get(&token) else { return };
        let is_dead = first.by.is(LinkState::Dead);
        if !is_dead && !first.is_answered {
            // The answer was lost on its way.
            return;
        }
        if self.is_outdated_file(token) {
            self.world.may_break.store(true, SeqCst);
        } else if Arc::ptr_eq(&first.by, by) {
            self.world.is_wrong("a replica sent a token that it has a newer one for");
        } else if was_paused || first.by.is_excused() {
            self.excused.fetch_add(1, SeqCst);
        } else {
            self.world.is_wrong("a spent token was sent while another replica had the newer one");
        }
    }

    /// Whether the configuration named this token before, and names another one now: a replica may still apply the
    /// earlier configuration.
    fn is_outdated_file(&self, (family, number): (u64, u64)) -> bool {
        let declared = self.declared.lock();
        number == 0 && declared.as_ref().is_some_and(|named| numbers(named).0 > family)
    }

    /// Whether the replica that used a refresh token has crashed since, and may have lost the newer token.
    pub(super) fn is_taken_by_a_crash(&self, token: (u64, u64)) -> bool {
        let uses = self.uses.lock();
        uses.get(&token).is_some_and(|first| first.by.is(LinkState::Dead))
    }

    fn begin(&self, family: u64, link: &Arc<Link>) {
        let mut asking = self.asking.lock();
        let beside = asking.iter().filter(|(of, other)| *of == family && !other.is_excused());
        if beside.count() > 0 && !link.is_excused() {
            self.world.is_wrong("two mints at once");
        }
        asking.push((family, link.clone()));
    }
}

impl AskingReplica {
    pub(in crate::tests::simulation) async fn asked(
        &self,
        clock: &Clock,
        grant: &Grant,
        limit: Duration,
    ) -> Result<Grant, MintError> {
        let Self { fleet, link } = self;
        let (world, token) = (&fleet.world, numbers(grant));
        let is_paused = link.is(LinkState::Paused);
        link.running().await;
        let was_paused = is_paused && link.is_excused();
        world.asked.fetch_add(1, SeqCst);
        fleet.begin(token.0, link);
        let request = Request { fleet, family: token.0, link };
        let Answer { after, what } = world.next_answer(limit);
        let is_spent = world.rotated.lock()[&token.0] != token.1;
        if is_spent {
            fleet.used_again(token, link, was_paused);
        }
        if is_spent || matches!(what, What::Dead) {
            world.rotated.lock().insert(token.0, u64::MAX);
            world.may_break.store(true, SeqCst);
            self.answers(after).await;
            let (reason, code) = (Dead::Revoked, ErrorCode::of("invalid_grant"));
            return Err(MintError::Dead { reason, code, said: None });
        }
        let sent = Clock::clone(clock);
        if matches!(what, What::Token(_) | What::Lost | What::GivenUp) {
            world.rotated.lock().insert(token.0, token.1 + 1);
            fleet.uses.lock().insert(token, Use { by: link.clone(), is_answered: false });
            link.unsaved(true);
        }
        self.answers(after).await;
        drop(request);
        match what {
            What::Token(life) => {
                let mut uses = fleet.uses.lock();
                uses.get_mut(&token).expect("noted above").is_answered = true;
                Ok(grant_of(&sent, token.0, token.1 + 1, life))
            }
            What::Later(seconds) => {
                let mut temporary = Temporary::of("later");
                temporary.retry_after = seconds.map(|it| Duration::from_secs(it.into()));
                Err(MintError::Unavailable(Box::new(temporary)))
            }
            _ => {
                world.may_break.store(true, SeqCst);
                Err(MintError::Unavailable(Box::new(Temporary::of("lost"))))
            }
        }
    }

    /// Waits until the replica receives the answer; a paused one receives it when it resumes.
    async fn answers(&self, after: u64) {
        passes(after).await;
        self.link.running().await;
    }
}
