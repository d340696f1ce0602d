//! Panics inside a world are results: caught with their text and place, not printed; other panics are left alone.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::sync::Once;

thread_local! {
    /// Inside [`catch`]: the text of the first panic, which is the cause of the others.
    static CAUGHT: RefCell<Option<Option<String>>> = const { RefCell::new(None) };
}

static HOOK: Once = Once::new();

/// Runs `life`. Answers its value, and the text of the first panic in it, even of one that a task or `life` itself
/// swallowed; no value when the panic came out of `life`.
pub(crate) fn catch<T>(life: impl FnOnce() -> T) -> (Option<T>, Option<String>) {
    HOOK.call_once(|| {
        let otherwise = take_hook();
        set_hook(Box::new(move |info| {
            let inside = CAUGHT.with_borrow_mut(|caught| match caught {
                Some(first) => {
                    first.get_or_insert_with(|| info.to_string().replace('\n', " "));
                    true
                }
                None => false,
            });
            if !inside {
                otherwise(info);
            }
        }));
    });
    CAUGHT.set(Some(None));
    let value = catch_unwind(AssertUnwindSafe(life)).ok();
    (value, CAUGHT.take().flatten())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_panic_is_told_even_if_it_was_swallowed() {
        assert_eq!(catch(|| 1), (Some(1), None));
        let (value, text) = catch(|| {
            let _ = catch_unwind(|| panic!("the cause"));
            panic!("a consequence");
        });
        assert_eq!(value, None::<()>);
        assert!(text.is_some_and(|text| text.contains("the cause") && text.contains("panics.rs")));
        assert_eq!(catch(|| 2), (Some(2), None));
    }
}
