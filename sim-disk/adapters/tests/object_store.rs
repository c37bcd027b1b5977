//! object_store's own tests of stores on ours, and every state that a power loss leaves at each call of a put.
#![cfg(feature = "object-store")]

use futures::{FutureExt, TryStreamExt};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, integration};
use sim_core::NodeId;
use sim_core::choices::Deviation;
use sim_disk::{Profile, Tearing, Volume};
use sim_disk_adapters::{SharedVolume, object_store::Store};
use std::cell::{Cell, RefCell};
use std::rc::Rc;

/// On a runtime, which object_store's tests of uploads ask for.
fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().expect("it has no driver").block_on(future)
}

/// Its futures are ready when they are first asked, so the store can be asked within a call of another.
fn at_once<T>(future: impl Future<Output = T>) -> T {
    future.now_or_never().expect("it is ready")
}

fn disk(profile: Profile) -> SharedVolume {
    let mut volume = Volume::new(NodeId(1), "a", profile);
    volume.set_tearing(Tearing::Never);
    SharedVolume::new(volume)
}

fn store() -> Store {
    Store::open(&disk(Profile::Linux), "/objects").expect("there is room")
}

#[test]
fn it_is_an_object_store() {
    block_on(async {
        integration::put_get_delete_list(&store()).await;
        integration::get_opts(&store()).await;
        integration::put_opts(&store(), true).await;
        integration::list_uses_directories_correctly(&store()).await;
        integration::list_with_delimiter(&store()).await;
        integration::rename_and_copy(&store()).await;
        integration::copy_if_not_exists(&store()).await;
        integration::copy_rename_nonexistent_object(&store()).await;
        integration::multipart_race_condition(&store(), true).await;
        integration::multipart_out_of_order(&store()).await;
        integration::stream_get(&store()).await;
        integration::list_with_offset_exclusivity(&store()).await;
    });
}

#[test]
fn every_location_is_a_place_of_its_own() {
    const PLACES: [&str; 8] = ["a", "a/b", "a.d", "a.o", "a.d.d", "a.d/b", "a/b.o/c.d", "a/b.o/c"];
    block_on(async {
        let store = Store::open(&disk(Profile::Linux), "/").expect("there is room");
        for location in PLACES {
            store.put(&Path::from(location), location.into()).await.expect("there is room");
        }
        for location in PLACES {
            let found = store.get(&Path::from(location)).await.expect("it is there").bytes().await.expect("it reads");
            assert_eq!(found, location);
        }
        let mut listed: Vec<String> =
            store.list(None).map_ok(|meta| meta.location.to_string()).try_collect().await.expect("it lists");
        listed.sort();
        let mut places = PLACES;
        places.sort();
        assert_eq!(listed, places);
    });
}

/// Puts and replaces an object; after each call on the disk, every state has the acknowledged object, or the one being put: what
/// has neither is returned. `early` takes each put for acknowledged before it begins.
fn check(profile: Profile, early: bool) -> Vec<Vec<Deviation>> {
    let location = Path::from("a/b");
    let disk = disk(profile);
    let store = Store::open(&disk, "/objects").expect("there is room");
    let allowed = Rc::new(RefCell::new(vec![None]));
    let (looked, wrong) = (Rc::new(Cell::new(0)), Rc::new(RefCell::new(Vec::new())));
    let (judged, counted, found_wrong, place) = (allowed.clone(), looked.clone(), wrong.clone(), location.clone());
    disk.after_each_change(move |volume| {
        for state in volume.crash_states() {
            counted.set(counted.get() + 1);
            let store = Store::open(&SharedVolume::new(state.volume), "/objects").expect("it opens");
            let found = match at_once(store.get(&place)) {
                Ok(found) => Some(at_once(found.bytes()).expect("it reads").to_vec()),
                Err(object_store::Error::NotFound { .. }) => None,
                Err(e) => panic!("{e}"),
            };
            if !judged.borrow().contains(&found) {
                found_wrong.borrow_mut().push(state.lost);
            }
        }
    });
    for content in [1, 2].map(|fill| vec![fill; 5000]) {
        allowed.borrow_mut().push(Some(content.clone()));
        if early {
            allowed.borrow_mut().remove(0);
        }
        at_once(store.put(&location, content.into())).expect("there is room");
        allowed.borrow_mut().drain(..1 - usize::from(early));
    }
    assert!(looked.get() > 30, "{} states in {profile:?}", looked.get());
    wrong.take()
}

#[test]
fn what_was_put_survives_every_crash_and_is_whole() {
    for profile in [Profile::Linux, Profile::Strict] {
        assert_eq!(check(profile, false), Vec::<Vec<Deviation>>::new(), "{profile:?}");
    }
}

/// A canary: nobody may rely on a put that has not returned.
#[test]
fn what_is_being_put_is_not_yet_there() {
    for profile in [Profile::Linux, Profile::Strict] {
        assert!(!check(profile, true).is_empty(), "{profile:?}");
    }
}
