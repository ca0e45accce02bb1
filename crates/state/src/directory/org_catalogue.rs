//! [`OrgCatalogue`]: the providers of all organisations together with those of one, merged once.

use std::sync::Arc;

use arc_swap::ArcSwapOption;

use keyward_rules::provider::Catalogue;

/// The catalogue of an organisation with own providers. It is merged at its first use and kept, because it is looked up
/// for each connection. Views with the same providers share it.
#[derive(Clone, Debug, Default)]
pub(super) struct OrgCatalogue(Arc<ArcSwapOption<MergedCatalogue>>);

#[derive(Debug)]
struct MergedCatalogue {
    /// The providers of all organisations.
    all: Arc<Catalogue>,
    merged: Arc<Catalogue>,
}

impl OrgCatalogue {
    /// The catalogue of all organisations with the own providers, which `merge` adds.
    pub(super) fn merged_with(
        &self,
        all: &Arc<Catalogue>,
        merge: impl FnOnce() -> Catalogue,
    ) -> Arc<Catalogue> {
        let known = self.0.load();
        if let Some(known) = known.as_ref().filter(|known| Arc::ptr_eq(&known.all, all)) {
            return Arc::clone(&known.merged);
        }
        let merged = Arc::new(merge());
        let (all, kept) = (Arc::clone(all), Arc::clone(&merged));
        self.0.store(Some(Arc::new(MergedCatalogue { all, merged: kept })));
        merged
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_catalogue_of_an_organisation_is_merged_once_per_common_catalogue() {
        let of_org = OrgCatalogue::default();
        let (first, second) = (Arc::<Catalogue>::default(), Arc::<Catalogue>::default());
        let mut made = 0;
        let mut merged = |of_org: &OrgCatalogue, all: &Arc<Catalogue>| {
            of_org.merged_with(all, || {
                made += 1;
                Catalogue::default()
            })
        };
        let one = merged(&of_org, &first);
        assert!(Arc::ptr_eq(&one, &merged(&of_org.clone(), &first)), "views share it");
        assert!(!Arc::ptr_eq(&one, &merged(&of_org, &second)), "after a reload");
        assert!(!Arc::ptr_eq(&one, &merged(&OrgCatalogue::default(), &first)), "others");
        assert_eq!(made, 3);
    }
}
