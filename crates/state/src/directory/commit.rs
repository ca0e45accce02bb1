//! Commits the change of a record: writes the events for webhooks, then the row, then replaces the view. Only the
//! [`DirectoryWriter`] does this, which has the turn to write.

use std::sync::Arc;

use serde::Serialize;

use super::changes::Between;
use super::error::DirectoryError;
use super::news::{DeliveryCause, News};
use super::rows::At;
use super::view::View;
use super::{DirectoryWriter, Shared};
use crate::store::Version;
use keyward_model::{Org, Record};

/// A record that the view has.
pub(super) trait Viewed: Serialize + Send + Sync {
    /// Puts it into the view.
    fn show(self: Arc<Self>, view: &mut View);
}

impl Viewed for Record<Org> {
    fn show(self: Arc<Self>, view: &mut View) {
        view.put_org(self);
    }
}

impl DirectoryWriter {
    /// Writes a record over the version that was read, or a new one over none, and shows it.
    pub(super) async fn commit<T: Viewed>(
        &self,
        at: &At,
        record: T,
        over: Option<Version>,
    ) -> Result<Arc<T>, DirectoryError> {
        let record = Arc::new(record);
        let after = self.viewed(|view| T::show(Arc::clone(&record), view));
        let cause = DeliveryCause::of(at, Some(over.unwrap_or_default().next()));
        let news = self.news(at, &after, cause).await?;
        if let Err(error) = self.rows.write(at, &*record, over).await {
            self.withdraw_news(&news).await;
            return Err(error);
        }
        self.show(after);
        self.tell(news).await;
        Ok(record)
    }

    /// Deletes a row, only in the version `over` if given, and removes the record from the view.
    pub(super) async fn erase(
        &self,
        at: &At,
        over: Option<Version>,
        hide: impl FnOnce(&mut View),
    ) -> Result<(), DirectoryError> {
        let after = self.viewed(hide);
        let news = self.news(at, &after, DeliveryCause::of(at, None)).await?;
        if let Err(error) = self.rows.delete(at, over).await {
            self.withdraw_news(&news).await;
            return Err(error.into());
        }
        self.show(after);
        self.tell(news).await;
        Ok(())
    }

    /// The events of a change, stored for the webhooks that want them.
    async fn news(
        &self,
        at: &At,
        after: &View,
        cause: DeliveryCause,
    ) -> Result<Vec<News>, DirectoryError> {
        let before = self.view.load_full();
        let (by, now) = (&self.acting.by, self.clock.now());
        let catalogue = after.catalogue(&at.org, &self.catalogue.load());
        let between = Between { before: &before, after, by, now, catalogue: &catalogue };
        let notices = between.notices(at);
        let change = between.change(at).filter(|_| notices.is_empty());
        let mut news = self.owe(notices, self.acting.recorded, after, Some(cause)).await?;
        let org = at.org.clone();
        news.extend(change.map(|change| News {
            org,
            at: now,
            notice: None,
            owed: Vec::new(),
            change: Some(change),
        }));
        Ok(news)
    }
}

impl Shared {
    /// Replaces the view where the store differs from it: another replica has written, or a write that was reported as
    /// failed has reached the store.
    pub(super) fn publish(&self, change: impl FnOnce(&mut View)) {
        self.show(self.viewed(change));
    }

    fn viewed(&self, change: impl FnOnce(&mut View)) -> View {
        let mut view = View::clone(&self.view.load());
        change(&mut view);
        view
    }

    /// Replaces the view, then notifies those who watch for changes: they must find the change in the view.
    fn show(&self, view: View) {
        self.view.store(Arc::new(view));
        self.changes.send_modify(|count| *count += 1);
    }
}
