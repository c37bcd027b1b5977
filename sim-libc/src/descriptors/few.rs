//! A list of mostly one: that one lies in the list itself, not in memory of its own that has to be fetched first.

/// First in, first out.
pub(super) struct Few<T> {
    /// `None` only while `more` is empty.
    first: Option<T>,
    more: Vec<T>,
}

impl<T> Default for Few<T> {
    fn default() -> Few<T> {
        Few { first: None, more: Vec::new() }
    }
}

impl<T> Few<T> {
    pub fn is_empty(&self) -> bool {
        self.first.is_none()
    }

    pub fn push(&mut self, item: T) {
        match self.first {
            None => self.first = Some(item),
            Some(_) => self.more.push(item),
        }
    }

    pub fn get(&self, i: usize) -> Option<&T> {
        match i {
            0 => self.first.as_ref(),
            _ => self.more.get(i - 1),
        }
    }

    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.first.iter().chain(&self.more)
    }

    pub fn retain(&mut self, keep: impl Fn(&T) -> bool) {
        self.more.retain(&keep);
        if self.first.as_ref().is_some_and(|first| !keep(first)) {
            self.first = (!self.more.is_empty()).then(|| self.more.remove(0));
        }
    }
}

impl<T> IntoIterator for Few<T> {
    type Item = T;
    type IntoIter = std::iter::Chain<std::option::IntoIter<T>, std::vec::IntoIter<T>>;

    fn into_iter(self) -> Self::IntoIter {
        self.first.into_iter().chain(self.more)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_keeps_the_order_of_what_was_added_whatever_goes() {
        let mut few = Few::default();
        (0..5).for_each(|i| few.push(i));
        few.retain(|i| *i != 0 && *i != 3);
        few.push(5);
        assert_eq!((few.get(0), few.get(3), few.get(4)), (Some(&1), Some(&5), None));
        assert_eq!(few.iter().copied().collect::<Vec<_>>(), [1, 2, 4, 5]);
        few.retain(|i| *i == 5);
        assert!(!few.is_empty());
        assert_eq!(few.into_iter().collect::<Vec<_>>(), [5]);
    }
}
