package rest_test

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/dataplane/rest"
)

// orders is the documentation's example of several foreign keys, with a view
// over each table.
const orders = `
CREATE TABLE addresses (id int PRIMARY KEY, city text);
CREATE TABLE orders (id int PRIMARY KEY, billing_address_id int CONSTRAINT billing REFERENCES addresses, shipping_address_id int CONSTRAINT shipping REFERENCES addresses);
CREATE TABLE deliveries (order_id int REFERENCES orders, address_id int REFERENCES addresses, PRIMARY KEY (order_id, address_id));
CREATE VIEW cities AS SELECT id, id AS same, city FROM addresses;
CREATE TABLE presidents (id int PRIMARY KEY, first_name text, predecessor_id int REFERENCES presidents);
CREATE FUNCTION bills(addresses) RETURNS orders STABLE LANGUAGE sql AS $$ SELECT o FROM orders o WHERE billing_address_id = $1.id LIMIT 1 $$;
INSERT INTO addresses VALUES (1, 'Oslo'), (2, 'Rome'); INSERT INTO orders VALUES (1, 1, 2); INSERT INTO deliveries VALUES (1, 2);
INSERT INTO presidents VALUES (1, 'George', NULL), (2, 'John', 1);`

func TestRelationshipsByName(t *testing.T) {
	a := fixture(t, rest.Options{})
	a.exec(orders)
	for path, want := range map[string]string{
		"/orders?select=billing(city)":                                       `[{"billing":{"city":"Oslo"}}]`, // a constraint means the table, not the view
		"/orders?select=shipping_address_id(city)":                           `[{"shipping_address_id":{"city":"Rome"}}]`,
		"/orders?select=a:addresses!shipping_address_id(city)":               `[{"a":{"city":"Rome"}}]`,
		"/orders?select=addresses!deliveries(city)":                          `[{"addresses":[{"city":"Rome"}]}]`,
		"/orders?select=cities!billing(city)":                                ``, // by id, or by same
		"/addresses?select=bills(id)&id=eq.1":                                `[{"bills":{"id":1}}]`,
		"/presidents?select=first_name,predecessor_id(first_name)&id=eq.2":   `[{"first_name":"John","predecessor_id":{"first_name":"George"}}]`,
		"/presidents?select=first_name,presidents(first_name)&id=eq.1":       `[{"first_name":"George","presidents":[{"first_name":"John"}]}]`,
		"/presidents?select=s:presidents!predecessor_id(first_name)&id=eq.1": `[{"s":[{"first_name":"John"}]}]`,
	} {
		w := a.get(path)
		if want == "" {
			require.Equal(t, 300, w.Code, path)
			continue
		}
		require.Equal(t, 200, w.Code, "%s: %s", path, w.Body)
		require.JSONEq(t, want, w.Body.String(), path)
	}
	require.JSONEq(t, `{"code":"PGRST201","details":[
		{"cardinality":"many-to-one","embedding":"orders with addresses","relationship":"billing using orders(billing_address_id) and addresses(id)"},
		{"cardinality":"many-to-one","embedding":"orders with addresses","relationship":"shipping using orders(shipping_address_id) and addresses(id)"},
		{"cardinality":"many-to-many","embedding":"orders with addresses","relationship":"deliveries using deliveries_order_id_fkey(order_id) and deliveries_address_id_fkey(address_id)"}],
		"hint":"Try changing 'addresses' to one of the following: 'addresses!billing', 'addresses!shipping', 'addresses!deliveries'. Find the desired relationship in the 'details' key.",
		"message":"Could not embed because more than one relationship was found for 'orders' and 'addresses'"}`, a.get("/orders?select=addresses(*)").Body.String())
}

func TestSuggestions(t *testing.T) {
	a := fixture(t, rest.Options{})
	a.exec(orders)
	for path, hint := range map[string]string{
		"/addresess":                    "Perhaps you meant the table 'public.addresses'",
		"/adr":                          "",
		"/orders?select=adresses(*)":    "Perhaps you meant 'addresses' instead of 'adresses'.",
		"/orders?select=addresses!x(*)": "",
		"/orders?select=idd":            `Perhaps you meant to reference the column "orders.id".`,
	} {
		var f struct{ Hint string }
		w := a.get(path)
		require.NoError(t, json.Unmarshal(w.Body.Bytes(), &f), path)
		require.Equal(t, hint, f.Hint, "%s: %s", path, w.Body)
	}
}
