// Takes an order: looks up the price, reserves the copies, charges the customer.
import { call, json, serve } from "./shophttp.mjs";

const { CATALOG_URL, INVENTORY_URL, PAYMENTS_URL, PORT } = process.env;
let last = 0;

async function order({ body }) {
  const { book, copies = 1 } = body ?? {};
  if (typeof book !== "string" || !Number.isInteger(copies)) {
    return json(400, { error: 'an order is {"book": "<id>", "copies": <number>}' });
  }
  const { cents, title } = await call(CATALOG_URL, `/books/${encodeURIComponent(book)}`);
  await call(INVENTORY_URL, "/reservations", { method: "POST", body: { book, copies } });
  const { receipt } = await call(PAYMENTS_URL, "/charges", { method: "POST", body: { cents: cents * copies } });
  last += 1;
  return json(201, { order: last, title, copies, cents: cents * copies, receipt });
}

serve("orders", Number(PORT), { "POST /orders": order });
