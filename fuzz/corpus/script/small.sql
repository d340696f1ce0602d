SET a = 'b';
SELECT 1 -- x
/* y */;