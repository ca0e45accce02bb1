//! [`Lookups`]: the addresses of names, by a resolver that blocks a thread for each look-up, also after its callers have
//! given up. Callers of a name share its look-up, unless it has run for long. A look-up for which no caller waits is not
//! begun.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use tokio::sync::watch;

/// Concurrent look-ups. With fewer, unresponsive names would soon block all others.
const THREADS_MAX: usize = 256;

/// Threads that wait for a name. They are woken in turns, so that after a burst all would stay while there is any work.
const IDLE_MAX: usize = 8;

/// How long a thread waits for a name before it ends.
const IDLE_FOR: Duration = Duration::from_secs(10);

/// The stack of a thread, in bytes: the default of Rust.
const STACK_BYTES: usize = 2 << 20;

/// Names that are looked up or wait for a thread.
const NAMES_MAX: usize = 4_096;

/// How long callers join a look-up after it has begun. A resolver may never return: glibc reads an answer over TCP without
/// a timeout. The next look-up of the name is joined for twice as long, so that such a name does not use all threads.
const JOINED_FOR: Duration = Duration::from_secs(15);

/// The addresses of a name.
type Resolver = dyn Fn(&str) -> io::Result<Vec<SocketAddr>> + Send + Sync;

/// Looks names up.
pub struct Lookups {
    threads_max: usize,
    stack_bytes: usize,
    /// For the first look-up of a name.
    joined_for: Duration,
    shared: Arc<LookupsShared>,
}

struct LookupsShared {
    /// Returns addresses with any port.
    resolver: Box<Resolver>,
    queue: Mutex<LookupQueue>,
    /// Wakes an idle thread.
    requested: Condvar,
    idle_for: Duration,
}

#[derive(Default)]
struct LookupQueue {
    /// The newest look-up of each name, until it has ended.
    lookups: HashMap<Box<str>, Arc<Lookup>>,
    /// Names whose look-up has not begun, the oldest first.
    waiting: VecDeque<Box<str>>,
    /// Threads that look names up, or are idle.
    threads: usize,
    /// Threads that wait for a name, or were woken for one.
    idle: usize,
}

/// One look-up. Each caller has a receiver of the result.
struct Lookup {
    callers: watch::Sender<Option<LookupResult>>,
    begun: OnceLock<Instant>,
    /// After its begin.
    joined_for: Duration,
}

/// The result for all callers.
#[derive(Clone)]
struct LookupResult(Arc<io::Result<Vec<SocketAddr>>>);

impl Lookups {
    /// By the system's resolver.
    pub fn by_system() -> Self {
        Self::new(THREADS_MAX, |name| (name, 0_u16).to_socket_addrs().map(Iterator::collect))
    }

    /// By `resolver`, on at most `threads_max` threads.
    pub fn new(
        threads_max: usize,
        resolver: impl Fn(&str) -> io::Result<Vec<SocketAddr>> + Send + Sync + 'static,
    ) -> Self {
        let (resolver, queue) = (Box::new(resolver), Mutex::default());
        let (requested, idle_for) = (Condvar::new(), IDLE_FOR);
        let shared = Arc::new(LookupsShared { resolver, queue, requested, idle_for });
        Self { threads_max, stack_bytes: STACK_BYTES, joined_for: JOINED_FOR, shared }
    }

    /// The addresses of a name, with this port.
    ///
    /// # Errors
    /// That of the resolver; [`io::ErrorKind::QuotaExceeded`] when too many names are being looked up, or the system starts
    /// no thread.
    pub async fn addresses(&self, name: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        let mut caller = self.join(name)?;
        let found = caller.wait_for(Option::is_some).await.map(|found| found.clone());
        match found {
            Ok(Some(found)) => found.with_port(port),
            Ok(None) | Err(_) => Err(io::Error::other("the look-up did not end")),
        }
    }

    /// Joins the look-up of a name, or requests one.
    fn join(&self, name: &str) -> io::Result<watch::Receiver<Option<LookupResult>>> {
        let mut queue = self.shared.queue.lock();
        let joined_for = match queue.lookups.get(name) {
            Some(lookup) if lookup.is_joinable() => return Ok(lookup.callers.subscribe()),
            Some(lookup) => lookup.joined_for.saturating_mul(2),
            None => {
                queue.make_room()?;
                self.joined_for
            }
        };
        let (callers, caller) = watch::channel(None);
        let lookup = Lookup { callers, begun: OnceLock::new(), joined_for };
        queue.lookups.insert(name.into(), Arc::new(lookup));
        queue.waiting.push_back(name.into());
        if let Err(error) = self.wake_or_start_thread(&mut queue) {
            queue.waiting.pop_back();
            queue.lookups.remove(name);
            return Err(error);
        }
        Ok(caller)
    }

    /// Wakes an idle thread for the newest name. If all have a name, starts one, if there may be one more.
    fn wake_or_start_thread(&self, queue: &mut LookupQueue) -> io::Result<()> {
        if queue.waiting.len() <= queue.idle {
            self.shared.requested.notify_one();
            return Ok(());
        }
        if queue.threads >= self.threads_max {
            return Ok(());
        }
        let shared = self.shared.clone();
        let thread = thread::Builder::new().name("keyward-lookup".into());
        match thread.stack_size(self.stack_bytes).spawn(move || shared.look_up_all()) {
            Ok(_) => queue.threads += 1,
            Err(error) if queue.threads == 0 => {
                return Err(io::Error::new(io::ErrorKind::QuotaExceeded, error));
            }
            Err(error) => {
                tracing::debug!(%error, "cannot start a thread that looks names up; the running ones continue")
            }
        }
        Ok(())
    }
}

impl LookupsShared {
    /// Looks names up until none has come for long.
    fn look_up_all(&self) {
        while let Some((name, lookup)) = self.next() {
            let resolved = catch_unwind(AssertUnwindSafe(|| (self.resolver)(&name)));
            let found = resolved.unwrap_or_else(|_| Err(io::Error::other("the resolver panicked")));
            self.queue.lock().remove_ended(&name, &lookup);
            lookup.callers.send_replace(Some(LookupResult(Arc::new(found))));
        }
    }

    /// The next look-up. Waits for one for `idle_for`. `None`: none has come, or enough other threads wait, so that this one
    /// ends.
    fn next(&self) -> Option<(Box<str>, Arc<Lookup>)> {
        let mut queue = self.queue.lock();
        let mut waited = false;
        loop {
            if let Some(begun) = queue.begin_oldest() {
                return Some(begun);
            }
            if waited || queue.idle >= IDLE_MAX {
                queue.threads -= 1;
                return None;
            }
            queue.idle += 1;
            waited = self.requested.wait_for(&mut queue, self.idle_for).timed_out();
            queue.idle -= 1;
        }
    }
}

impl LookupQueue {
    /// Begins the look-up that has waited for longest, if a caller still waits.
    fn begin_oldest(&mut self) -> Option<(Box<str>, Arc<Lookup>)> {
        while let Some(name) = self.waiting.pop_front() {
            match self.lookups.get(&name).filter(|lookup| lookup.is_wanted()) {
                Some(lookup) => {
                    lookup.begun.get_or_init(Instant::now);
                    return Some((name, lookup.clone()));
                }
                None => drop(self.lookups.remove(&name)),
            }
        }
        None
    }

    /// Makes room for one more name.
    fn make_room(&mut self) -> io::Result<()> {
        if self.lookups.len() >= NAMES_MAX {
            self.remove_unwanted();
        }
        if self.lookups.len() >= NAMES_MAX {
            let error = "too many names are being looked up";
            return Err(io::Error::new(io::ErrorKind::QuotaExceeded, error));
        }
        Ok(())
    }

    /// Removes the look-ups that have not begun and have no caller.
    fn remove_unwanted(&mut self) {
        self.lookups.retain(|_, lookup| lookup.begun.get().is_some() || lookup.is_wanted());
        self.waiting.retain(|name| self.lookups.contains_key(name));
    }

    /// Removes a look-up, unless a newer one of the name has taken its place.
    fn remove_ended(&mut self, name: &str, ended: &Arc<Lookup>) {
        if self.lookups.get(name).is_some_and(|newest| Arc::ptr_eq(newest, ended)) {
            self.lookups.remove(name);
        }
    }
}

impl Lookup {
    fn is_wanted(&self) -> bool {
        self.callers.receiver_count() > 0
    }

    /// Whether its result is expected soon enough for a further caller.
    fn is_joinable(&self) -> bool {
        self.begun.get().is_none_or(|begun| begun.elapsed() < self.joined_for)
    }
}

impl LookupResult {
    fn with_port(&self, port: u16) -> io::Result<Vec<SocketAddr>> {
        match &*self.0 {
            Ok(addresses) => {
                let mut addresses = addresses.clone();
                addresses.iter_mut().for_each(|addr| addr.set_port(port));
                Ok(addresses)
            }
            Err(error) => Err(match error.raw_os_error() {
                Some(code) => io::Error::from_raw_os_error(code),
                None => io::Error::new(error.kind(), error.to_string()),
            }),
        }
    }
}

impl fmt::Debug for Lookups {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lookups").finish_non_exhaustive()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::pin::pin;
    use std::sync::{Barrier, mpsc};

    use futures_util::FutureExt;
    use futures_util::future::join_all;

    use super::*;

    /// Every name has the address 127.0.0.1. The look-up of `dead.test` ends when the sender is dropped. The list has the
    /// names that were looked up.
    pub(crate) fn with_dead_name(
        threads_max: usize,
    ) -> (Lookups, mpsc::Sender<()>, Arc<Mutex<Vec<String>>>) {
        let (sender, ended) = mpsc::channel::<()>();
        let (ended, asked) = (Mutex::new(ended), Arc::<Mutex<Vec<String>>>::default());
        let list = Arc::clone(&asked);
        let lookups = Lookups::new(threads_max, move |name: &str| {
            list.lock().push(name.to_owned());
            if name == "dead.test" {
                // An error means that the sender was dropped.
                let _ = ended.lock().recv();
            }
            Ok(vec![SocketAddr::from(([127, 0, 0, 1], 0))])
        });
        (lookups, sender, asked)
    }

    fn set_idle_for(lookups: &mut Lookups, idle_for: Duration) {
        Arc::get_mut(&mut lookups.shared).expect("no thread has it").idle_for = idle_for;
    }

    /// Waits until there are this many threads, and this many of them are idle.
    fn until_threads(lookups: &Lookups, threads: usize, idle: usize) {
        let begun = Instant::now();
        loop {
            let queue = lookups.shared.queue.lock();
            let now = (queue.threads, queue.idle);
            drop(queue);
            if now == (threads, idle) {
                return;
            }
            assert!(begun.elapsed() < Duration::from_secs(60), "{now:?}");
            thread::yield_now();
        }
    }

    #[tokio::test]
    async fn a_look_up_that_no_caller_waits_for_is_not_begun() {
        let (lookups, dead, asked) = with_dead_name(1);
        let mut first = pin!(lookups.addresses("dead.test", 1));
        assert!(first.as_mut().now_or_never().is_none());
        for name in ["a.test", "b.test", "a.test"] {
            assert!(lookups.addresses(name, 1).now_or_never().is_none());
        }
        drop(dead);
        let (first, next) = tokio::join!(first, lookups.addresses("c.test", 2));
        assert_eq!(first.unwrap(), [SocketAddr::from(([127, 0, 0, 1], 1))]);
        assert_eq!(next.unwrap(), [SocketAddr::from(([127, 0, 0, 1], 2))]);
        assert_eq!(*asked.lock(), ["dead.test", "c.test"]);
    }

    #[tokio::test]
    async fn callers_of_one_name_share_its_look_up_and_leave_a_thread_to_others() {
        let (lookups, dead, asked) = with_dead_name(2);
        let mut all = pin!(join_all((0..300).map(|port| lookups.addresses("dead.test", port))));
        tokio::select! {
            _ = &mut all => panic!("it hangs"),
            found = lookups.addresses("ok.test", 443) => assert!(found.is_ok()),
        }
        drop(dead);
        for (port, found) in (0..300).zip(all.await) {
            assert_eq!(found.unwrap(), [SocketAddr::from(([127, 0, 0, 1], port))]);
        }
        let mut names = asked.lock().clone();
        names.sort();
        assert_eq!(names, ["dead.test", "ok.test"]);
        // A later caller does not get an old result.
        assert!(lookups.addresses("ok.test", 443).await.is_ok());
        assert_eq!(asked.lock().len(), 3);
    }

    #[tokio::test]
    async fn a_name_whose_look_up_hangs_is_looked_up_again() {
        let (hangs, released) = mpsc::channel::<()>();
        let (called, mut calls) = tokio::sync::mpsc::unbounded_channel::<()>();
        let released = Mutex::new(Some(released));
        let mut lookups = Lookups::new(2, move |_: &str| {
            let first = released.lock().take();
            called.send(()).unwrap();
            if let Some(released) = first {
                // An error means that the sender was dropped.
                let _ = released.recv();
            }
            Ok(vec![SocketAddr::from(([127, 0, 0, 1], 0))])
        });
        lookups.joined_for = Duration::ZERO;
        let mut first = pin!(lookups.addresses("slow.test", 1));
        assert!(first.as_mut().now_or_never().is_none());
        calls.recv().await.unwrap();
        let second = lookups.addresses("slow.test", 2).await;
        assert_eq!(second.unwrap(), [SocketAddr::from(([127, 0, 0, 1], 2))]);
        assert!(first.as_mut().now_or_never().is_none(), "it hangs still");
        drop(hangs);
        assert_eq!(first.await.unwrap(), [SocketAddr::from(([127, 0, 0, 1], 1))]);
    }

    #[tokio::test]
    async fn a_thread_that_fails_to_start_blocks_no_name() {
        const TOO_MANY: usize = usize::MAX / 8;
        let (mut lookups, dead, _) = with_dead_name(2);
        lookups.stack_bytes = TOO_MANY;
        let error = lookups.addresses("dead.test", 1).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::QuotaExceeded);
        lookups.stack_bytes = STACK_BYTES;
        let _first = lookups.join("dead.test").unwrap();
        lookups.stack_bytes = TOO_MANY;
        // The running thread takes it.
        let mut second = lookups.join("ok.test").unwrap();
        drop(dead);
        assert!(second.wait_for(Option::is_some).await.is_ok());
    }

    #[tokio::test]
    async fn no_thread_starts_while_one_is_idle_nor_beyond_the_bound() {
        let (mut lookups, dead, _) = with_dead_name(2);
        lookups.joined_for = Duration::ZERO;
        set_idle_for(&mut lookups, Duration::MAX);
        for name in ["a.test", "b.test"] {
            assert!(lookups.addresses(name, 1).await.is_ok());
            until_threads(&lookups, 1, 1);
        }
        let _older = lookups.join("dead.test").unwrap();
        until_threads(&lookups, 1, 0);
        let _newer = lookups.join("dead.test").unwrap();
        let mut third = lookups.join("c.test").unwrap();
        assert_eq!(lookups.shared.queue.lock().threads, 2);
        drop(dead);
        assert!(third.wait_for(Option::is_some).await.is_ok());
        until_threads(&lookups, 2, 2);
    }

    #[tokio::test]
    async fn a_thread_ends_after_it_was_idle_for_long() {
        let (mut lookups, _dead, _) = with_dead_name(2);
        set_idle_for(&mut lookups, Duration::ZERO);
        for name in ["a.test", "b.test"] {
            assert!(lookups.addresses(name, 1).await.is_ok());
            until_threads(&lookups, 0, 0);
        }
    }

    #[tokio::test]
    async fn after_a_burst_only_the_maximum_of_idle_threads_stays() {
        let all_run = Barrier::new(IDLE_MAX + 2);
        let mut lookups = Lookups::new(IDLE_MAX + 2, move |_: &str| {
            all_run.wait();
            Ok(vec![])
        });
        set_idle_for(&mut lookups, Duration::MAX);
        let names: Vec<String> = (0..IDLE_MAX + 2).map(|number| format!("{number}.test")).collect();
        let found = join_all(names.iter().map(|name| lookups.addresses(name, 1))).await;
        assert!(found.iter().all(Result::is_ok));
        until_threads(&lookups, IDLE_MAX, IDLE_MAX);
    }

    #[test]
    fn a_look_up_that_took_long_does_not_end_a_newer_one_of_the_name() {
        let lookups = Lookups::new(1, |_: &str| Ok(vec![]));
        let [older, newer] = [(); 2].map(|()| {
            let (callers, begun) = (watch::Sender::new(None), OnceLock::new());
            Arc::new(Lookup { callers, begun, joined_for: JOINED_FOR })
        });
        let mut queue = lookups.shared.queue.lock();
        queue.lookups.insert("slow.test".into(), newer.clone());
        queue.remove_ended("slow.test", &older);
        assert!(queue.lookups.contains_key("slow.test"));
        queue.remove_ended("slow.test", &newer);
        assert!(queue.lookups.is_empty());
    }

    #[tokio::test]
    async fn the_number_of_names_with_waiting_callers_is_bounded() {
        let (lookups, _dead, _) = with_dead_name(1);
        let names: Vec<String> = (1..NAMES_MAX).map(|number| format!("{number}.test")).collect();
        let mut waiting = vec![Box::pin(lookups.addresses("dead.test", 1))];
        waiting.extend(names.iter().map(|name| Box::pin(lookups.addresses(name, 1))));
        for caller in &mut waiting {
            assert!(caller.as_mut().now_or_never().is_none());
        }
        let refused = lookups.addresses("one.more.test", 1).now_or_never();
        let error = refused.expect("at once").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::QuotaExceeded);
        assert!(lookups.addresses("7.test", 1).now_or_never().is_none(), "it is looked up already");
        waiting.pop();
        assert!(lookups.addresses("one.more.test", 1).now_or_never().is_none());
        waiting.truncate(1);
        assert!(lookups.addresses("another.test", 1).now_or_never().is_none());
        assert!(lookups.shared.queue.lock().waiting.len() <= 2, "the others were removed");
    }

    #[tokio::test]
    async fn an_error_reaches_all_callers_and_a_panic_ends_one_look_up_only() {
        let none_left = rustix::io::Errno::MFILE.raw_os_error();
        let lookups = Lookups::new(1, move |name: &str| match name {
            "full.test" => Err(io::Error::from_raw_os_error(none_left)),
            "bad.test" => panic!("on purpose"),
            _ => Err(io::Error::new(io::ErrorKind::NotFound, "no such name")),
        });
        let (one, two) =
            tokio::join!(lookups.addresses("full.test", 1), lookups.addresses("full.test", 2));
        for error in [one.unwrap_err(), two.unwrap_err()] {
            assert_eq!(error.raw_os_error(), Some(none_left));
        }
        assert!(lookups.addresses("bad.test", 1).await.is_err());
        let error = lookups.addresses("none.test", 1).await.unwrap_err();
        assert_eq!((error.kind(), &*error.to_string()), (io::ErrorKind::NotFound, "no such name"));
    }
}
