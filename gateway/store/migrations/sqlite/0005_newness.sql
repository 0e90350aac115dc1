-- How new an order's newest version is, where the vendor says so: a number that it counts up, or microseconds since 1970.
ALTER TABLE orders ADD COLUMN newest_sequence INTEGER;
ALTER TABLE orders ADD COLUMN newest_as_of_us INTEGER;
