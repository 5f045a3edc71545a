"""Behind `dpbeam tune`: what bounds, strategies and noises cost and keep on data at hand, and which are best."""
