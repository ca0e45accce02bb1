//! Work during which a signal loses no tokens.

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
        match &self.via {
            Via::InProcess(services) => Box::pin(services.until_landed(work)).await,
            Via::NoInstallation(_, made) => match made.get() {
                Some(made) => Box::pin(made.until_landed(work)).await,
                None => work.await,
            },
            Via::Socket(_) | Via::Remote(_) => work.await,
        }
    }
}
