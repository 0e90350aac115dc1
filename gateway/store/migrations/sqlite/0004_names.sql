-- The vendor's own number of an order, by which people name it: `number:PO-1`. Older orders get theirs where a message of them is still
-- under way or waits for a person. `resent`: how often a person had a delivered message sent again; its target has had it, whatever
-- becomes of it now.
ALTER TABLE orders ADD COLUMN number TEXT;
ALTER TABLE outbox ADD COLUMN resent INTEGER NOT NULL DEFAULT 0;
CREATE INDEX orders_by_number ON orders (number) WHERE number IS NOT NULL;
UPDATE orders SET number = (
    SELECT json_extract(CAST(body AS TEXT), '$.order.order_number') FROM outbox INDEXED BY outbox_by_order
     WHERE order_id = orders.id AND json_valid(CAST(body AS TEXT)) ORDER BY outbox.id DESC LIMIT 1)
WHERE id IN (SELECT order_id FROM outbox WHERE status IN ('ready', 'leased', 'unknown')
             UNION SELECT order_id FROM outbox WHERE status IN ('held', 'dead'));
