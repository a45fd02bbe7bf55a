"""The paper's user study (section 4.4, Fig. 7): a page that asks, the answers, what they say."""
