//! The simulated object store: the contract of all storages, and each of its faults.

use futures::TryStreamExt;
use object_store::{ObjectStore, ObjectStoreExt};
use wavetank_engine::environment::Environment;
use wavetank_engine::storage::{Folder, Lock, PutNew, contract};

use super::*;
use crate::disk::CrashImage;
use crate::fault::{Fault, Harm};
use crate::world::{Ended, World};

fn log(environment: &Environment) -> Folder {
    environment.storage.folder("blob://bucket/log").expect("a folder")
}

/// A world with these faults in its first life.
fn world(faults: &[(&str, Harm)]) -> World {
    let world = World::new(1);
    let fault = |(at, harm): &(&str, Harm)| Fault { life: 0, at: format!("{ROOT}/{at}"), harm: harm.clone() };
    world.effects().arm(faults.iter().map(fault));
    world
}

fn live<T, F: Future<Output = T>>(world: &World, life: impl FnOnce(Folder) -> F) -> T {
    let ended = world.run(|environment| life(log(&environment)));
    ended.finished().expect("the life ends in peace")
}

fn names(world: &World) -> Vec<String> {
    world.effects().trace().into_iter().map(|effect| effect.name).collect()
}

#[test]
fn the_simulated_object_store_keeps_the_contract_of_storages() {
    let world = World::new(1);
    let ended = world.run(|environment| async move {
        contract::check_storage(environment.storage.as_ref(), "blob://bucket/some/where").await;
        contract::check_folder(&environment.storage.folder("blob://bucket/other").unwrap()).await;
        let lock = environment.storage.lock(&log(&environment)).await;
        assert!(matches!(lock, Ok(Lock::Unsupported)), "{lock:?}");
    });
    assert_eq!(ended, Ended::Finished(()));
}

#[test]
fn requests_are_effects_with_the_names_of_their_objects() {
    let world = world(&[]);
    live(&world, |log| async move {
        log.put_new("0", "a".into()).await.unwrap();
        log.get("0").await.unwrap();
        log.head("0").await.unwrap();
        log.list().await.unwrap();
        log.delete("0").await.unwrap();
    });
    let expected = ["log/0 put", "log/0 get", "log/0 head", "log list", "log/0 delete"];
    assert_eq!(names(&world), expected.map(|name| format!("{ROOT}/{name}")));
}

#[test]
fn an_acknowledged_put_survives_every_crash_and_is_whole() {
    for image in CrashImage::ALL {
        for harm in [Harm::CrashBefore { image }, Harm::CrashAfter { image }] {
            let world = world(&[("log/1 put", harm.clone())]);
            let died: Ended<()> = world.run(|environment| async move {
                log(&environment).put("0", "acknowledged".into()).await.unwrap();
                let _ = log(&environment).put("1", "whole".into()).await;
                unreachable!("it died");
            });
            assert!(matches!(died, Ended::Died(_)), "{died:?}");
            world.crash(image);
            world.reboot();
            let (first, second) =
                live(&world, |log| async move { (log.get("0").await.unwrap(), log.get("1").await.unwrap()) });
            assert_eq!(first, Some("acknowledged".into()), "{image}");
            let expected = matches!(harm, Harm::CrashAfter { .. }).then(|| Bytes::from("whole"));
            assert_eq!(second, expected, "{image}");
        }
    }
}

#[test]
fn a_conditional_put_that_conflicts_with_itself_is_told_from_another_writer() {
    for harm in [Harm::LostReply, Harm::SelfConflict, Harm::Late { us: 1 }] {
        let world = world(&[("log/0 put", harm.clone())]);
        let answers = live(&world, |log| async move {
            [log.put_new("0", "ours".into()).await.unwrap(), log.put_new("0", "theirs".into()).await.unwrap()]
        });
        assert_eq!(answers, [PutNew::Written, PutNew::AlreadyThere("ours".into())], "{harm}");
    }
}

#[test]
fn a_storm_hits_the_requests_that_follow_and_then_it_is_over() {
    let storm = |times| world(&[("log/0 put", Harm::Busy { times })]);
    let (short, long) = (storm(4), storm(6));
    live(&short, |log| async move { log.put("0", "a".into()).await.unwrap() });
    assert_eq!(names(&short).len(), 5, "four refused, one done");
    let error = live(&long, |log| async move {
        let error = log.put("0", "a".into()).await.unwrap_err();
        log.put("0", "a".into()).await.unwrap();
        error.to_string()
    });
    assert!(error.contains("503"), "{error}");
}

#[test]
fn a_request_that_comes_late_is_done_when_its_sender_is_dead() {
    let world = world(&[
        ("log/0 put", Harm::Late { us: 60_000_000 }),
        ("log/0 put#2", Harm::CrashBefore { image: CrashImage::Strict }),
    ]);
    let died: Ended<()> = world.run(|environment| async move {
        let _ = log(&environment).put_new("0", "of the dead".into()).await;
        unreachable!("it died");
    });
    assert!(matches!(died, Ended::Died(_)), "{died:?}");
    let before = world.digest();
    world.crash(CrashImage::Strict);
    world.reboot();
    let answer = live(&world, |log| async move {
        assert_eq!(log.get("0").await.unwrap(), None, "still on its way");
        log.put_new("1", "of the living".into()).await.unwrap();
        log.list().await.unwrap()
    });
    assert_eq!(answer.len(), 1);
    world.reboot();
    let ended = world.run(|environment| async move {
        let log = log(&environment);
        environment.clock.sleep_until_us(environment.clock.now_us() + 60_000_000).await;
        log.put_new("0", "of the living".into()).await.unwrap()
    });
    assert_eq!(ended, Ended::Finished(PutNew::AlreadyThere("of the dead".into())));
    assert_ne!(before, world.digest());
}

#[test]
fn an_answer_that_is_cut_short_is_read_to_its_end() {
    for quietly in [false, true] {
        let world = world(&[
            ("log/0 get", Harm::Cut { bytes: 3, quietly }),
            ("log/0 get#2", Harm::Cut { bytes: 0, quietly }),
            ("log/0 get#3", Harm::Busy { times: 2 }),
        ]);
        let got = live(&world, |log| async move {
            log.put("0", "0123456789".into()).await.unwrap();
            log.get("0").await.unwrap()
        });
        assert_eq!(got, Some("0123456789".into()));
        assert_eq!(names(&world).len(), 6, "{:?}", names(&world));
    }
}

#[test]
fn a_listing_in_pages_misses_nothing_that_was_there_while_others_write() {
    let world = world(&[]);
    let (listed, pages) = live(&world, |log| async move {
        for number in 0..8 {
            log.put(&format!("{}", 10 + number), "x".into()).await.unwrap();
        }
        let writer = {
            let log = log.clone();
            tokio::spawn(async move {
                for name in ["00", "99", "13"] {
                    log.put(name, "new".into()).await.unwrap();
                    tokio::task::yield_now().await;
                }
                log.delete("17").await.unwrap();
            })
        };
        let bare = log.store.clone();
        let listed: Vec<_> = bare.list(Some(&log.path)).try_collect().await.unwrap();
        writer.await.unwrap();
        let pages = bare.list_with_delimiter(Some(&log.path)).await.unwrap();
        (
            listed.into_iter().map(|meta| meta.location.filename().unwrap_or_default().to_owned()).collect::<Vec<_>>(),
            pages,
        )
    });
    for number in 10..17 {
        assert_eq!(listed.iter().filter(|name| **name == number.to_string()).count(), 1, "{listed:?}");
    }
    assert_eq!(pages.objects.len(), 9);
    let lists = names(&world).iter().filter(|name| name.contains("log list")).count();
    assert!(lists >= 3 + 3, "{lists} pages");
}

#[test]
fn times_are_whole_seconds() {
    let world = world(&[]);
    let times = live(&world, |log| async move {
        log.put("0", "x".into()).await.unwrap();
        log.store.head(&log.file("0")).await.unwrap().last_modified
    });
    assert_eq!(times.timestamp_subsec_micros(), 0);
}
