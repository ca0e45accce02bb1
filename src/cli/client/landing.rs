//! Work during which a signal loses no tokens.

use super::in_process::InProcessApi;
use super::{Client, Via};
use crate::cli::failure::Failure;

impl Client {
    /// Awaits work during which this process may receive tokens, if it answers itself: a signal does not lose them.
    ///
    /// # Errors
    /// Those of `work`, and after a signal.
    pub(crate) async fn until_landed<T>(
        &self,
        work: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        let work = Box::pin(work);
        match self.services() {
            Some(services) => services.until_landed(work).await,
            None => work.await,
        }
    }

    /// The services of this process, if it answers itself.
    fn services(&self) -> Option<&InProcessApi> {
        match &self.via {
            Via::InProcess(services) => Some(services),
            Via::NoInstallation(_, made) => made.get()?.services(),
            Via::Socket(_) | Via::Remote(_) => None,
        }
    }
}
